#!/usr/bin/env bash
# A Cloud TPU slice, from creation to deletion. One action per call:
#
#   create  --name --zone --type [--runtime] [--spot]
#   setup   --name --zone [--nfs=HOST:/SHARE]
#   run     --name --zone [--xla-flags=SET] [--max-restarts=N] -- COMMAND...
#   status  --name --zone          state of the slice
#   code    --name --zone          exit code on worker 0, or `running`
#   logs    --name --zone [--worker=W]
#   stop    --name --zone
#   delete  --name --zone
#
# All take --project=P and --dry-run, which prints every command and runs none.
#
#   launch/tpu_pod.sh create --name=try --zone=us-west4-a --type=v5litepod-16
#   launch/tpu_pod.sh setup --name=try --zone=us-west4-a --nfs=10.0.0.2:/runs
#   launch/tpu_pod.sh run --name=try --zone=us-west4-a -- python -m \
#       softdimo_jax.main --config=configs/digits.py --workdir=/mnt/shared/try
#
# setup copies the last commit to every worker, installs Python 3.12 (the images
# have 3.10, too old for JAX) and, with --nfs, mounts the share at /mnt/shared
# on all workers; a slice of several hosts must have its workdir there. run
# starts the command on all workers and returns; a worker restarts it after exit
# code 75 (launch/restart.sh). stop sends SIGTERM: the command saves and exits.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

readonly FOLDER=softdimo_jax # on every worker, in its home directory
readonly MOUNT=/mnt/shared

tpu() { tpu_resource tpu-vm "$@"; }

on_workers() { tpu ssh "--worker=$1" "--command=$2"; }

create() {
  need type
  local image
  image=$(tpu_runtime)
  tpu create "--accelerator-type=${option[type]}" "--version=$image" \
    ${option[spot]:+--spot}
}

setup() {
  need_tool git 'it packs the commit to copy'
  local archive=/tmp/$FOLDER.tar.gz mount=
  if [[ -n $(git -C "$root" status --porcelain 2>/dev/null) ]]; then
    echo 'note: uncommitted changes are not copied' >&2
  fi
  run git -C "$root" archive --format=tar.gz "--output=$archive" HEAD
  tpu scp "$archive" --worker=all
  if [[ -n ${option[nfs]:-} ]]; then
    [[ ${option[nfs]} == *:/* ]] ||
      fail "--nfs=${option[nfs]} must be HOST:/SHARE"
    mount="sudo apt-get install -y nfs-common && sudo mkdir -p $MOUNT && \
(mountpoint -q $MOUNT || sudo mount $(quoted "${option[nfs]}") $MOUNT) && \
sudo chmod 777 $MOUNT"
  fi
  on_workers all "set -e; mkdir -p $FOLDER; cd $FOLDER
tar -xzf ../$FOLDER.tar.gz
python3 -m pip install --quiet --user uv
~/.local/bin/uv venv --quiet --allow-existing --seed --python=3.12 .venv
.venv/bin/pip install --quiet -r requirements.txt -e '.[tpu]'
$mount"
}

run_command() {
  need_command
  need_count max-restarts
  need_flag_set
  local flags=none restarts=${option[max-restarts]:-100}
  [[ -z ${option[xla-flags]:-} ]] || flags=${option[xla-flags]}
  on_workers all "set -e; cd $FOLDER; . .venv/bin/activate
eval \"\$(launch/xla_flags.sh $flags)\"
test ! -e run.pid || ! kill -0 \$(cat run.pid) 2>/dev/null || \
{ echo 'error: a command is still running; stop it first' >&2; exit 2; }
rm -f run.code
setsid nohup launch/restart.sh --max-restarts=$restarts \
--code-file=run.code -- $(quoted "${command[@]}") >> run.log 2>&1 < /dev/null &
echo \$! > run.pid"
}

parse_options \
  'name zone project type runtime nfs xla-flags max-restarts worker' 'spot' "$@"
take_action create setup run status code logs stop delete
need name zone
need_tool gcloud 'see the installation guide of the Google Cloud CLI'
case $action in
  create) create ;;
  setup) setup ;;
  run) run_command ;;
  status) tpu describe '--format=value(state)' ;;
  code) on_workers 0 "cat $FOLDER/run.code 2>/dev/null || echo running" ;;
  logs)
    need_count worker
    on_workers "${option[worker]:-0}" "tail -n 200 -F $FOLDER/run.log"
    ;;
  # restart.sh has its own process group and passes the signal on.
  stop) on_workers all "kill -TERM \$(cat $FOLDER/run.pid)" ;;
  delete) tpu delete --quiet ;;
esac
