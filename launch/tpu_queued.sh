#!/usr/bin/env bash
# Waits in the queue for a TPU slice, runs a command on it, and asks for the
# next one when it is taken away, until the command has ended.
#
#   launch/tpu_queued.sh --name=N --zone=Z --type=T [options] -- COMMAND...
#
#   --nfs=HOST:/SHARE  mounted at /mnt/shared; the workdir has to lie there,
#                      or nothing is left of it when the slice is gone
#   --spot             cheaper capacity that may be taken away at any time
#   --project=P --runtime=IMAGE --xla-flags=SET --max-restarts=N
#                      as of launch/tpu_pod.sh, which does the work
#   --poll=S           seconds between two looks at the slice, 60 unless given
#   --dry-run          prints every command of one round and runs nothing
#
# Runs on your own machine and has to be left running. The slice is deleted at
# the end, when the command failed as well. Exit code: the command's.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

queue() { tpu_resource queued-resources "$@"; }

# pod ACTION NAMES... [-- WORDS...]: tpu_pod.sh, handing on the options named.
pod() {
  local arguments=("$1") name
  shift
  for name in name zone project dry-run "$@"; do
    [[ -n ${option[$name]:-} ]] || continue
    if [[ $name == dry-run ]]; then
      arguments+=(--dry-run)
    else
      arguments+=("--$name=${option[$name]}")
    fi
  done
  [[ ${arguments[0]} != run ]] || arguments+=(-- "${command[@]}")
  "$root/launch/tpu_pod.sh" "${arguments[@]}"
}

ask() {
  queue create "--node-id=${option[name]}" \
    "--accelerator-type=${option[type]}" "--runtime-version=$image" \
    ${option[spot]:+--spot}
}

# Prints the state of the request; a look that fails is repeated later.
state() { queue describe '--format=value(state.state)' || echo UNKNOWN; }

pause() { run sleep "${option[poll]:-60}"; }

# Returns 0 when the slice is there, 1 when the request has come to nothing.
wait_for_slice() {
  local now
  while now=$(state); do
    case $now in
      ACTIVE) return 0 ;;
      FAILED | SUSPENDING | SUSPENDED) return 1 ;;
    esac
    echo "$(date +%H:%M) the request is $now" >&2
    pause
  done
}

# Sets code and returns 0 when the command has ended; 1: the slice is gone.
wait_for_command() {
  while [[ $(state) =~ ^(ACTIVE|UNKNOWN)$ ]]; do
    code=$(pod code || true)
    [[ ! $code =~ ^[0-9]+$ ]] || return 0
    pause
  done
  return 1
}

discard() { queue delete --force --quiet; }

parse_options \
  'name zone project type runtime nfs xla-flags max-restarts poll' 'spot' "$@"
((${#positional[@]} == 0)) ||
  fail "${positional[0]} is no option (see --help)"
need name zone type
need_command
need_count poll
need_count max-restarts
need_flag_set
need_tool gcloud 'see the installation guide of the Google Cloud CLI'
image=$(tpu_runtime)

if dry; then
  ask
  state
  pod setup nfs
  pod run xla-flags max-restarts
  pod code
  discard
  exit
fi

while true; do
  ask
  if wait_for_slice; then
    if pod setup nfs && pod run xla-flags max-restarts; then
      wait_for_command && break
    elif [[ $(state) == ACTIVE ]]; then
      discard
      echo 'error: the slice is there, but the command did not start' >&2
      exit 1
    fi
  fi
  echo 'the slice is gone; asking for another one' >&2
  discard || true
  pause
done
discard
exit "$code"
