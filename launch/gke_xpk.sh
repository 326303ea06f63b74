#!/usr/bin/env bash
# A run on a GKE cluster, through xpk. One action per call:
#
#   build   --image                 builds and pushes an image of this checkout
#   run     --name --cluster --zone --image --type|--device-type [--slices=N]
#           [--xla-flags=SET] [--max-restarts=N] -- COMMAND...
#   list    --cluster --zone
#   logs    --name                  logs of the first worker, through kubectl
#   delete  --name --cluster --zone
#
#   --project=P       project of the cluster; default: gcloud's
#   --type=T          TPU slice, such as v5litepod-16
#   --device-type=T   GPU machine instead, such as h100-mega-80gb-8
#   --extra=E         extra of the package in the image: tpu (default) or gpu
#   --dry-run         prints every command and runs nothing
#
#   launch/gke_xpk.sh run --name=try --cluster=c --zone=us-west4-a \
#     --image=IMAGE --type=v5litepod-16 -- python -m softdimo_jax.main \
#     --config=configs/maskbit.py --workdir=/runs/maskbit
#
# GKE restarts the workers after exit code 75, up to --max-restarts times
# (default 100). The workdir must be on storage that xpk has attached to the
# cluster (`xpk storage attach ... --auto-mount=true`).
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

workload() {
  local verb=$1
  shift
  run xpk workload "$verb" "--cluster=${option[cluster]}" \
    "--zone=${option[zone]}" \
    ${option[project]:+"--project=${option[project]}"} "$@"
}

build() {
  need image
  need_tool docker 'it builds the image'
  local extra=${option[extra]:-tpu}
  [[ $extra == tpu || $extra == gpu ]] ||
    fail "--extra=$extra is unknown; choose tpu or gpu"
  run docker build "--file=$root/launch/Dockerfile" "--build-arg=EXTRA=$extra" \
    "--tag=${option[image]}" "$root"
  run docker push "${option[image]}"
}

run_workload() {
  need name cluster zone image
  need_command
  need_count slices
  need_count max-restarts
  need_flag_set
  local kind=tpu-type size=${option[type]:-} flags=none
  if [[ -n ${option[device-type]:-} ]]; then
    [[ -z $size ]] || fail '--type and --device-type exclude each other'
    kind=device-type size=${option[device-type]}
  fi
  [[ -n $size ]] || fail 'run needs --type=... or --device-type=...'
  [[ -z ${option[xla-flags]:-} ]] || flags=${option[xla-flags]}
  workload create "--workload=${option[name]}" "--$kind=$size" \
    "--num-slices=${option[slices]:-1}" "--docker-image=${option[image]}" \
    "--max-restarts=${option[max-restarts]:-100}" \
    "--restart-on-exit-codes=$REQUEUE_CODE" \
    "--command=eval \"\$(launch/xla_flags.sh $flags)\"; exec \
$(quoted "${command[@]}")"
}

logs() {
  need name
  need_tool kubectl 'it comes with the Google Cloud CLI'
  local job=jobset.sigs.k8s.io/jobset-name=${option[name]}
  run kubectl logs --follow --tail=200 \
    "--selector=$job,batch.kubernetes.io/job-completion-index=0"
}

parse_options \
  'name cluster zone project image type device-type slices xla-flags
   max-restarts extra' '' "$@"
take_action build run list logs delete
case $action in
  build) build ;;
  logs) logs ;;
  *)
    need_tool xpk 'pip install xpk'
    need cluster zone
    case $action in
      run) run_workload ;;
      list) workload list ;;
      delete)
        need name
        workload delete "--workload=${option[name]}"
        ;;
    esac
    ;;
esac
