#!/usr/bin/env bash
# Runs a command again as long as it exits with 75 (saved after a signal).
#
#   launch/restart.sh [--max-restarts=N] [--code-file=FILE] [--dry-run] \
#       -- COMMAND...
#
# A signal to this script goes to the command, which saves; then nothing is
# started again. --max-restarts is 100 unless given. The code is the command's;
# at the end it is also written to FILE.
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
  # A trapped signal ends the wait, not the command.
  while ((seen != signals)); do
    seen=$signals code=0
    wait "$child" || code=$?
  done
  if ((code != REQUEUE_CODE || restarts == 0 || signals > 0)); then
    [[ -z ${option[code-file]:-} ]] || echo "$code" >"${option[code-file]}"
    exit "$code"
  fi
  echo "exit code $code: starting again ($restarts restarts left)" >&2
done
