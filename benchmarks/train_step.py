"""Times the distillation step in turns, for MaskGit against PyTorch's.

  python -m benchmarks.train_step --size=medium

Programs: `shared` is our step as the configurations for small machines use it
(the auxiliary learns from the student's own sample), `fresh` is ours with the
official order of passes, `eager` and `compile` are PyTorch's, also with the
official order. All have the same batch, weights and precision.

MFU is the rate of the step's matrix products divided by the device's published
bfloat16 peak or, on a CPU, by the rate of one large float32 product.
"""

import importlib.util
import pathlib
import resource
import statistics
from typing import Any

import jax
from absl import flags

from benchmarks import devices, jax_step, options, sizes, timing
from softdimo_jax import families
from softdimo_jax.errors import UserError
from softdimo_jax.networks.layers import REMAT_POLICIES
from softdimo_jax.runtime import cli

OURS, TORCH = ('shared', 'fresh'), ('eager', 'compile')

_OPTIONS = options.Options.define('medium')
flags.adopt_module_key_flags(options)
_REMAT = flags.DEFINE_enum(
  'remat', '', ('', *REMAT_POLICIES), 'Recomputation policy; ours only.'
)
_DROPOUT = flags.DEFINE_bool(
  'dropout', False, 'Dropout of student and auxiliary, rate 0.1.'
)
_PROGRAMS = flags.DEFINE_multi_enum(
  'program',
  None,
  (*OURS, *TORCH),
  'Program to time; repeat for several. Default: all that can be compared.',
)
_CHECK = flags.DEFINE_bool(
  'check', True, "Compare losses with PyTorch's before timing."
)
_PROFILE = flags.DEFINE_string(
  'profile', None, 'Folder for traces of one step of each program.'
)


def main(argv: list[str]) -> None:
  """Checks, times, prints."""
  cli.no_arguments(argv)
  names = _chosen()
  size = sizes.get(
    _OPTIONS.size.value,
    batch_size=_OPTIONS.batch_size.value,
    dtype=_OPTIONS.dtype.value,
    remat=_REMAT.value,
    dropout=_DROPOUT.value,
  )
  params = jax_step.synthetic_params(families.build(size.model))
  result = {
    'size': _OPTIONS.size.value,
    'batch_size': size.distillation.batch_size,
  }
  if _CHECK.value and set(names) & set(TORCH):
    result['agreement'] = _check(size, params)
  programs = {name: _program(name, size, params) for name in names}
  times = timing.alternate(
    programs, _OPTIONS.rounds.value, clock=_OPTIONS.clock.value
  )
  result |= _report(size, params, programs, times)
  if _PROFILE.value:
    _trace(programs, pathlib.Path(_PROFILE.value))
  _OPTIONS.write(result)


def _chosen() -> list[str]:
  """Names of the programs to time.

  Raises:
    UserError: if PyTorch was requested and cannot be compared.
  """
  obstacle = _obstacle()
  if _PROGRAMS.value is None:
    return [*OURS] if obstacle else [*OURS, *TORCH]
  names = list(dict.fromkeys(_PROGRAMS.value))
  for name in names:
    if obstacle and name in TORCH:
      raise UserError(f'program {name}: {obstacle}; choose from {OURS}')
  return names


def _obstacle() -> str:
  """Why PyTorch cannot be compared here; empty if it can."""
  if _OPTIONS.size.value not in sizes.TORCH_SIZES:
    return f'there is no PyTorch step of size {_OPTIONS.size.value}'
  if _OPTIONS.dtype.value != 'float32':
    return 'the PyTorch step is float32'
  if jax.default_backend() != 'cpu':
    return f'it runs on the CPU, ours on {jax.default_backend()}'
  if importlib.util.find_spec('torch') is None:
    return "torch is missing (pip install -e '.[benchmark]')"
  return ''


def _check(size, params) -> dict[str, tuple[float, float]]:
  from benchmarks import agreement  # torch is an optional dependency

  compared = agreement.check(size, params)
  print(f'{"the same step":36} {"ours":>12} {"PyTorch":>12}')
  for name, (ours, theirs) in compared.items():
    print(f'{name:36} {ours:12.6f} {theirs:12.6f}')
  return compared


def _program(name: str, size, params):
  if name in OURS:
    return jax_step.JaxStep(size, params, fresh_sample=name == 'fresh')
  from benchmarks.torch_step import TorchStep  # torch is an optional dependency

  return TorchStep(size, params, compiled=name == 'compile')


def _report(size, params, programs, times: timing.Times) -> dict[str, Any]:
  kind = jax.devices()[0].device_kind
  peak = devices.published_peak(kind) or devices.measured_peak(
    clock=_OPTIONS.clock.value
  )
  print(
    f'{_OPTIONS.size.value}, batch {size.distillation.batch_size}, '
    f'{_OPTIONS.dtype.value}, {kind}, peak {peak / 1e9:.0f} GFLOP/s'
  )
  print(
    'program     ms/step      min      max  passes    MFU  images/s'
    '  x eager  x compile'
  )
  ours = {name: step for name, step in programs.items() if name in OURS}
  official = ours.get('fresh') or jax_step.JaxStep(
    size, params, fresh_sample=True
  )
  rows = {}
  for name, seconds in times.items():
    rows[name] = _row(name, seconds, times, ours.get(name, official), peak)
    rows[name]['images_per_second'] = (
      size.distillation.batch_size / rows[name]['median']
    )
    _print_row(name, rows[name])
  for name, step in ours.items():
    rows[name]['planned_bytes'] = step.memory()
    print(f'{name}: {step.memory() / 1e9:.2f} GB by the compiler')
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  print(f'peak memory of this process: {memory / 1e9:.2f} GB')
  return {
    'device': kind, 'peak': peak, 'programs': rows, 'peak_memory': memory,
  }  # fmt: skip


def _row(
  name: str, seconds: list[float], times: timing.Times, step, peak: float
) -> dict[str, Any]:
  """Numbers of one program; `step` counts its operations."""
  median = statistics.median(seconds)
  return {
    'seconds': seconds,
    'median': median,
    'passes': step.flops / step.forward_flops,
    'mfu': step.flops / median / peak,
    'speed': {
      reference: timing.ratio(times, name, reference)
      for reference in TORCH
      if reference in times
    },
  }


def _print_row(name: str, row: dict[str, Any]) -> None:
  shown = (row['median'], min(row['seconds']), max(row['seconds']))
  shown = ' '.join(f'{x * 1e3:8.1f}' for x in shown)
  speeds = '  '.join(f'{x:7.2f}' for x in row['speed'].values())
  print(
    f'{name:10} {shown} {row["passes"]:7.2f} {row["mfu"]:6.1%} '
    f'{row["images_per_second"]:9.2f}  {speeds}'
  )


def _trace(programs, folder: pathlib.Path) -> None:
  """Writes TensorBoard traces of ours, Chrome traces and tables of torch's."""
  for name, program in programs.items():
    (folder / name).mkdir(parents=True, exist_ok=True)
    if name in OURS:
      with jax.profiler.trace(str(folder / name)):
        program()
      continue
    import torch  # an optional dependency

    with torch.profiler.profile() as profile:
      program()
    profile.export_chrome_trace(str(folder / name / 'trace.json'))
    table = profile.key_averages().table('self_cpu_time_total', row_limit=20)
    (folder / name / 'table.txt').write_text(table, encoding='utf-8')


if __name__ == '__main__':
  cli.run(main)
