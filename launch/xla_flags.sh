#!/usr/bin/env bash
# Prints the environment of a named set of compiler flags, as `export` lines:
#
#   eval "$(launch/xla_flags.sh tpu_fsdp)"
#
# By default no set is used: measure before you adopt one. Sets:
#
#   none               nothing
#   cpu                smaller temporary buffers, in huge pages (glibc)
#   cpu_memory         less memory for full-size steps: results are computed
#                      only when needed, again for each use
#   tpu_data           all-reduces of gradients overlap the backward pass
#   tpu_fsdp           all-gathers of parameters overlap the layers
#   tpu_v6e            tpu_fsdp with more on-chip memory for dense layers
#   gpu                overlapped collectives; memory for one process
#   gpu_hopper         gpu, with settings for Hopper only
#   gpu_profiled       gpu, scheduled from a profile of the first steps
#   gpu_deterministic  bitwise repeatable, slower
#
# A flag that the compiler does not know stops the process at start; the set is
# then for another version or another device.
#
# --list prints only the names.
set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

readonly SETS=(
  none cpu cpu_memory tpu_data tpu_fsdp tpu_v6e
  gpu gpu_hopper gpu_profiled gpu_deterministic
)
# Without these passes the initial zeros of gradients are not one shared array,
# and each layer converts its bfloat16 matrices when it runs.
readonly CPU_MEMORY=(
  --xla_cpu_enable_concurrency_optimized_scheduler=false
  "--xla_disable_hlo_passes=cse,while-loop-invariant-code-motion,while-loop-expensive-invariant-code-motion"
)
readonly TPU_DATA=(
  --xla_tpu_enable_data_parallel_all_reduce_opt=true
  --xla_tpu_data_parallel_opt_different_sized_ops=true
)
readonly TPU_FSDP=(
  --xla_tpu_enable_async_collective_fusion=true
  --xla_tpu_enable_async_collective_fusion_fuse_all_gather=true
  --xla_tpu_enable_async_collective_fusion_multiple_steps=true
  --xla_tpu_overlap_compute_collective_tc=true
  --xla_enable_async_all_gather=true
)
readonly TPU_V6E=("${TPU_FSDP[@]}" --xla_tpu_scoped_vmem_limit_kib=98304)
# A layer of the larger generators has about 50 MB of bfloat16 parameters.
readonly GPU=(
  --xla_gpu_all_gather_combine_threshold_bytes=67108864
  --xla_gpu_reduce_scatter_combine_threshold_bytes=67108864
  --xla_gpu_all_reduce_combine_threshold_bytes=67108864
)

# set_variable NAME VALUES...: appends to the variable.
set_variable() {
  local name=$1
  shift
  # shellcheck disable=SC2016 # expanded where the line is evaluated
  printf 'export %s="${%s:+$%s }%s"\n' "$name" "$name" "$name" "$*"
}

gpu() {
  set_variable XLA_FLAGS "${GPU[@]}"
  echo 'export JAX_OPTIMIZATION_LEVEL=O1'
  echo 'export XLA_PYTHON_CLIENT_MEM_FRACTION=0.9'
  echo 'export NCCL_NVLS_ENABLE=1'
}

parse_options '' 'list' "$@"
if [[ -n ${option[list]:-} ]]; then
  printf '%s\n' "${SETS[@]}"
  exit
fi
((${#positional[@]} == 1)) || fail "name one set: ${SETS[*]}"
case ${positional[0]} in
  none) ;;
  cpu)
    echo 'export GLIBC_TUNABLES=glibc.malloc.hugetlb=1'
    set_variable XLA_FLAGS "${CPU_MEMORY[0]}"
    ;;
  cpu_memory) set_variable XLA_FLAGS "${CPU_MEMORY[@]}" ;;
  tpu_data) set_variable LIBTPU_INIT_ARGS "${TPU_DATA[@]}" ;;
  tpu_fsdp) set_variable LIBTPU_INIT_ARGS "${TPU_FSDP[@]}" ;;
  tpu_v6e) set_variable LIBTPU_INIT_ARGS "${TPU_V6E[@]}" ;;
  gpu) gpu ;;
  gpu_hopper)
    gpu
    echo 'export CUDA_DEVICE_MAX_CONNECTIONS=1'
    ;;
  gpu_profiled)
    gpu
    echo 'export JAX_ENABLE_PGLE=true'
    ;;
  gpu_deterministic)
    set_variable XLA_FLAGS --xla_gpu_deterministic_ops=true
    ;;
  *) fail "set ${positional[0]} is unknown; choose one of ${SETS[*]}" ;;
esac
