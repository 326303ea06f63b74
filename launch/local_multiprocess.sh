#!/usr/bin/env bash
# Runs N processes of one training run on this machine, as a pod would.
#
#   launch/local_multiprocess.sh N [options] -- python -m softdimo_jax.main \
#       --config=FILE --workdir=DIR
#
#   --devices=D       CPU devices per process (default: what JAX finds)
#   --port=P          port of process 0 (default: a free one)
#   --max-restarts=R  restarts after exit code 75 (default 0)
#   --grace=S         seconds that the others get to stop by themselves when one
#                     process fails, and again after SIGTERM (default 20)
#   --dry-run         prints every command and runs nothing
#
# Every process gets --coordinator, --num_processes and --process_id after its
# command, and its output lines begin with its number. When one fails, all are
# stopped; the exit code is that of the first one that failed. SIGTERM and
# Ctrl-C go to all processes, which save and exit; a second one kills them.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

parse_options 'devices port max-restarts grace' '' "$@"
((${#positional[@]})) || fail 'give the number of processes (see --help)'
((${#positional[@]} == 1)) ||
  fail "${positional[1]} is one word too many; the command goes after --"
count=${positional[0]}
[[ $count =~ ^[1-9][0-9]*$ ]] ||
  fail "$count processes: a whole number of at least 1 is needed"
for name in devices port max-restarts grace; do
  need_count "$name"
done
[[ ${option[devices]:-1} != 0 ]] || fail '--devices=0: at least 1 is needed'
need_command
grace=${option[grace]:-20}

if [[ -n ${option[devices]:-} ]]; then
  flag=--xla_force_host_platform_device_count=${option[devices]}
  export JAX_PLATFORMS=cpu XLA_FLAGS="${XLA_FLAGS:+$XLA_FLAGS }$flag"
fi

free_port() {
  local port
  for ((try = 0; try < 100; try++)); do
    port=$((20000 + RANDOM % 20000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
  fail 'no free port was found; give one with --port=P'
}

pids=()
printers=()
stopping=

signal_all() {
  local pid
  for pid in "${pids[@]}"; do
    kill "-$1" "$pid" 2>/dev/null || true
  done
}

stop() {
  local signal=${stopping:+KILL}
  stopping=1
  signal_all "${signal:-TERM}"
}

# Removes processes that have ended from pids. If code is 0, sets it to that of
# the first one that failed, and failed to its number.
collect() {
  local id status
  for id in "${!pids[@]}"; do
    ! kill -0 "${pids[id]}" 2>/dev/null || continue
    status=0
    wait "${pids[id]}" 2>/dev/null || status=$?
    unset 'pids[id]'
    ((status != 0 && code == 0)) || continue
    code=$status failed=$id
  done
}

# Waits up to `grace` seconds for all processes to end.
wait_for_all() {
  local tenths
  for ((tenths = grace * 10; ; tenths--)); do
    collect
    ((${#pids[@]})) || return 0
    ((tenths > 0)) || return 1
    sleep 0.1
  done
}

start_all() {
  local port=${option[port]:-} out
  [[ -n $port ]] || port=$(free_port)
  pids=() printers=()
  for ((id = 0; id < count; id++)); do
    local all=(
      "${command[@]}" "--coordinator=localhost:$port"
      "--num_processes=$count" "--process_id=$id"
    )
    if dry; then
      run env ${flag:+JAX_PLATFORMS=cpu} ${flag:+XLA_FLAGS="$XLA_FLAGS"} \
        "${all[@]}"
      continue
    fi
    exec {out}> >(trap '' TERM INT && exec sed -u "s/^/[$id] /")
    printers+=($!)
    "${all[@]}" >&"$out" 2>&1 {out}>&- &
    pids+=($!)
    exec {out}>&-
  done
}

# Sets code to 0, or to that of the first process that failed.
wait_all() {
  code=0
  while collect && ((${#pids[@]} && code == 0)); do
    sleep 0.1
  done
  if ((code != 0 && code != REQUEUE_CODE)); then
    echo "process $failed exited with $code; the others are stopped" >&2
  fi
  if ((${#pids[@]})); then
    wait_for_all || { signal_all TERM && wait_for_all; } || signal_all KILL
  fi
  wait "${printers[@]}" || true
}

trap stop TERM INT
for ((restarts = ${option[max-restarts]:-0}; ; restarts--)); do
  start_all
  dry && exit
  wait_all
  if ((code != REQUEUE_CODE || restarts == 0)) || [[ -n $stopping ]]; then
    exit "$code"
  fi
  echo "exit code $code: restarting ($restarts restarts left)" >&2
done
