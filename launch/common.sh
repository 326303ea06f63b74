# shellcheck shell=bash
# Shared by the scripts in this folder; source it, do not run it.

# PREEMPTED_CODE of softdimo_jax/errors.py: the run saved, start it again. A run
# that lost a process (LOST_CODE, 76) is not started again automatically.
# shellcheck disable=SC2034 # read by the scripts that source this
readonly REQUEUE_CODE=75

declare -A option=()
positional=()
command=()

# Prints one sentence and exits with the code for a mistake in the input.
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}

# Prints the comment at the head of the script.
usage() {
  awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0"
}

# parse_options 'NAMES WITH A VALUE' 'NAMES WITHOUT' ARGUMENTS...
# Fills option[NAME], positional and, from the words after `--`, command.
parse_options() {
  local with=" $1 " without=" $2 dry-run " name
  shift 2
  while (($#)); do
    case $1 in
      --)
        shift
        command=("$@")
        return
        ;;
      --help | -h)
        usage
        exit 0
        ;;
      --*=*)
        name=${1%%=*} && name=${name#--}
        [[ $with == *" $name "* ]] || unknown_option "--$name" "$without"
        option[$name]=${1#*=}
        ;;
      -*)
        name=${1#--}
        [[ $with == *" $name "* ]] && fail "--$name needs a value: --$name=..."
        [[ $without == *" $name "* ]] || unknown_option "$1" ''
        option[$name]=1
        ;;
      *) positional+=("$1") ;;
    esac
    shift
  done
}

unknown_option() {
  [[ $2 == *" ${1#--} "* ]] && fail "$1 takes no value"
  fail "option $1 is unknown; arguments of the run go after --" '(see --help)'
}

# take_action ACTIONS...: sets action to the single word before the options.
take_action() {
  ((${#positional[@]})) || fail "say what to do: one of $* (see --help)"
  ((${#positional[@]} == 1)) ||
    fail "${positional[1]} is one word too many (see --help)"
  action=${positional[0]}
  [[ " $* " == *" $action "* ]] ||
    fail "action $action is unknown; choose one of $*"
}

# need NAMES...: each must be given as --NAME=...
need() {
  local name
  for name in "$@"; do
    [[ -n ${option[$name]:-} ]] ||
      fail "${action:-this} needs --$name=... (see --help)"
  done
}

need_command() {
  ((${#command[@]})) ||
    fail 'give the command to run after --, for example' \
      '-- python -m softdimo_jax.main --config=... --workdir=...'
}

# need_count NAME: the option, if given, must be a whole number.
need_count() {
  [[ -z ${option[$1]:-} || ${option[$1]} =~ ^[0-9]+$ ]] ||
    fail "--$1=${option[$1]} is not a whole number"
}

dry() { [[ -n ${option[dry-run]:-} ]]; }

# need_tool NAME 'HOW TO GET IT'
need_tool() {
  dry || hash "$1" 2>/dev/null || fail "$1 is not installed: $2"
}

# Prints a command as one line that any shell parses into the same words.
quoted() {
  local word line='' quote="'\\''"
  for word in "$@"; do
    if [[ $word =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]]; then
      line+=" $word"
    else
      line+=" '${word//\'/$quote}'"
    fi
  done
  printf '%s' "${line# }"
}

# Prints a command and, unless --dry-run was given, runs it. Prints to stderr
# when it runs, since a caller may read the command's output.
run() {
  if dry; then
    printf '+ %s\n' "$(quoted "$@")"
  else
    printf '+ %s\n' "$(quoted "$@")" >&2
    "$@"
  fi
}

# need_flag_set: --xla-flags, if given, must name a set.
need_flag_set() {
  [[ -z ${option[xla-flags]:-} ]] ||
    "$root/launch/xla_flags.sh" "${option[xla-flags]}" >/dev/null
}

# tpu_resource KIND VERB ARGUMENTS...: gcloud for --name in --zone.
tpu_resource() {
  local kind=$1 verb=$2
  shift 2
  run gcloud compute tpus "$kind" "$verb" "${option[name]}" \
    "--zone=${option[zone]}" \
    ${option[project]:+"--project=${option[project]}"} "$@"
}

# Prints --runtime, or else the image for --type.
tpu_runtime() {
  if [[ -n ${option[runtime]:-} ]]; then
    echo "${option[runtime]}"
    return
  fi
  case ${option[type]} in
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v2-* | v3-* | v4-*) echo tpu-ubuntu2204-base ;;
    *) fail "no image is known for --type=${option[type]}; give --runtime=..." ;;
  esac
}

root=${root:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
