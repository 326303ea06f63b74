#!/usr/bin/env bash
# Restarts a command as long as it exits with 75 (saved after a signal).
#
#   launch/restart.sh [--max-restarts=N] [--code-file=FILE] [--dry-run] \
#       -- COMMAND...
#
# A signal to this script is passed on to the command, which saves; it is not
# restarted after that. --max-restarts is 100 by default. The exit code is the
# command's, and is also written to FILE.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

parse_options 'max-restarts code-file' '' "$@"
need_count max-restarts
need_command
if dry; then
  run "${command[@]}"
  exit
fi

signals=0
stop() {
  ((signals += 1))
  kill -TERM "$child" 2>/dev/null || true
}
trap stop TERM INT

for ((restarts = ${option[max-restarts]:-100}; ; restarts--)); do
  "${command[@]}" &
  child=$!
  seen=-1
  # A trapped signal ends `wait`, not the command.
  while ((seen != signals)); do
    seen=$signals code=0
    wait "$child" || code=$?
  done
  if ((code != REQUEUE_CODE || restarts == 0 || signals > 0)); then
    [[ -z ${option[code-file]:-} ]] || echo "$code" >"${option[code-file]}"
    exit "$code"
  fi
  echo "exit code $code: restarting ($restarts restarts left)" >&2
done
