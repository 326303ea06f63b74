"""Times the distillation step, of MaskGit against PyTorch's, in turns.

  python -m benchmarks.train_step --size=medium

Programs: `shared` is our step as configurations of this project for small
machines have it (the auxiliary learns from the student's own sample), `fresh`
ours with the official order of passes, `eager` and `compile` PyTorch's, with
the official order. All have the same batch, weights and precision.

MFU counts the operations of the step's matrix products, against the device's
published bfloat16 peak or, on a CPU, against one large float32 product.
"""

import importlib.util
import json
import pathlib
import resource
import statistics
from typing import Any

import jax
from absl import flags

from benchmarks import devices, jax_step, sizes, timing
from softdimo_jax import families
from softdimo_jax.errors import UserError
from softdimo_jax.networks.layers import REMAT_POLICIES
from softdimo_jax.runtime import cli

OURS, TORCH = ('shared', 'fresh'), ('eager', 'compile')

_SIZE = flags.DEFINE_enum('size', 'medium', sizes.SIZES, 'What is trained.')
_BATCH = flags.DEFINE_integer(
  'batch_size', 0, "Rows; 0 is the size's own.", lower_bound=0
)
_DTYPE = flags.DEFINE_enum(
  'dtype', 'float32', ('float32', 'bfloat16'), 'Of the products; ours only.'
)
_REMAT = flags.DEFINE_enum(
  'remat', '', ('', *REMAT_POLICIES), 'What is recomputed; ours only.'
)
_DROPOUT = flags.DEFINE_bool(
  'dropout', False, 'Dropout of student and auxiliary, rate 0.1.'
)
_PROGRAMS = flags.DEFINE_multi_enum(
  'program',
  None,
  (*OURS, *TORCH),
  'Repeat to choose several; otherwise all that can be compared.',
)
_ROUNDS = flags.DEFINE_integer('rounds', 7, 'Steps of each.', lower_bound=1)
_CLOCK = flags.DEFINE_enum(
  'clock',
  'wall',
  tuple(timing.CLOCKS),
  'processor: for a machine that others use, on one core (taskset -c 0).',
)
_CHECK = flags.DEFINE_bool(
  'check', True, "Compares losses with PyTorch's before timing."
)
_PROFILE = flags.DEFINE_string(
  'profile', None, 'Folder for a trace of one step of each program.'
)
_OUT = flags.DEFINE_string('out', None, 'JSON file for what was measured.')


def main(argv: list[str]) -> None:
  """Checks, times, prints."""
  cli.no_arguments(argv)
  names = _chosen()
  size = sizes.get(
    _SIZE.value,
    batch_size=_BATCH.value,
    dtype=_DTYPE.value,
    remat=_REMAT.value,
    dropout=_DROPOUT.value,
  )
  params = jax_step.made_up_params(families.build(size.model))
  result = {'size': _SIZE.value, 'batch_size': size.distillation.batch_size}
  if _CHECK.value and set(names) & set(TORCH):
    result['agreement'] = _check(size, params)
  programs = {name: _program(name, size, params) for name in names}
  times = timing.alternate(programs, _ROUNDS.value, clock=_CLOCK.value)
  result |= _report(size, params, programs, times)
  if _PROFILE.value:
    _trace(programs, pathlib.Path(_PROFILE.value))
  if _OUT.value:
    text = json.dumps(result, indent=2)
    pathlib.Path(_OUT.value).write_text(text + '\n', encoding='utf-8')


def _chosen() -> list[str]:
  """Names of the programs.

  Raises:
    UserError: where PyTorch was asked for and cannot be compared.
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
  """Why PyTorch is no comparison here, or nothing."""
  if _SIZE.value not in sizes.TORCH_SIZES:
    return f'there is no PyTorch step of size {_SIZE.value}'
  if _DTYPE.value != 'float32':
    return 'the PyTorch step is float32'
  if jax.default_backend() != 'cpu':
    return f'it runs on the CPU, ours on {jax.default_backend()}'
  if importlib.util.find_spec('torch') is None:
    return "torch is missing (pip install -e '.[benchmark]')"
  return ''


def _check(size, params) -> dict[str, tuple[float, float]]:
  from benchmarks import agreement  # torch is an extra

  compared = agreement.check(size, params)
  print(f'{"the same step":36} {"ours":>12} {"PyTorch":>12}')
  for name, (ours, theirs) in compared.items():
    print(f'{name:36} {ours:12.6f} {theirs:12.6f}')
  return compared


def _program(name: str, size, params):
  if name in OURS:
    return jax_step.JaxStep(size, params, fresh_sample=name == 'fresh')
  from benchmarks.torch_step import TorchStep  # torch is an extra

  return TorchStep(size, params, compiled=name == 'compile')


def _report(size, params, programs, times: timing.Times) -> dict[str, Any]:
  kind = jax.devices()[0].device_kind
  peak = devices.published_peak(kind) or devices.measured_peak(
    clock=_CLOCK.value
  )
  print(
    f'{_SIZE.value}, batch {size.distillation.batch_size}, '
    f'{_DTYPE.value}, {kind}, peak {peak / 1e9:.0f} GFLOP/s'
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
  """`step` has the operations of what was timed."""
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
  """TensorBoard traces of ours, Chrome traces and tables of torch's."""
  for name, program in programs.items():
    (folder / name).mkdir(parents=True, exist_ok=True)
    if name in OURS:
      with jax.profiler.trace(str(folder / name)):
        program()
      continue
    import torch  # an extra

    with torch.profiler.profile() as profile:
      program()
    profile.export_chrome_trace(str(folder / name / 'trace.json'))
    table = profile.key_averages().table('self_cpu_time_total', row_limit=20)
    (folder / name / 'table.txt').write_text(table, encoding='utf-8')


if __name__ == '__main__':
  cli.run(main)
