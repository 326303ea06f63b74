#!/usr/bin/env bash
# Requests a TPU slice from the queue, runs a command on it, and requests
# another slice whenever it is taken away, until the command has ended.
#
#   launch/tpu_queued.sh --name=N --zone=Z --type=T [options] -- COMMAND...
#
#   --nfs=HOST:/SHARE  mounted at /mnt/shared; the workdir must be there, or it
#                      is lost together with the slice
#   --spot             cheaper capacity that may be taken away at any time
#   --project=P --runtime=IMAGE --xla-flags=SET --max-restarts=N
#                      see launch/tpu_pod.sh, which does the work
#   --poll=S           seconds between checks of the slice (default 60)
#   --dry-run          prints every command of one round and runs nothing
#
# Runs on your own machine; leave it running. The slice is deleted at the end,
# even if the command failed. Exit code: the command's.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

queue() { tpu_resource queued-resources "$@"; }

# pod ACTION NAMES...: tpu_pod.sh with the named options passed on.
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

# Prints the state of the request; a failed query is repeated later.
state() { queue describe '--format=value(state.state)' || echo UNKNOWN; }

pause() { run sleep "${option[poll]:-60}"; }

# Returns 0 once the slice is active, 1 if the request has failed.
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

# Sets code and returns 0 once the command has ended; 1 if the slice is gone.
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
  fail "${positional[0]} is not an option (see --help)"
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
      echo 'error: the slice is active, but the command did not start' >&2
      exit 1
    fi
  fi
  echo 'the slice is gone; requesting another one' >&2
  discard || true
  pause
done
discard
exit "$code"
