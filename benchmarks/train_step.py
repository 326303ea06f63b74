"""Times the Di[M]O step against the same step in PyTorch, in turns.

  python -m benchmarks.train_step --size=medium

Programs: `shared` is our step as configurations of this project for small
machines have it (the auxiliary learns from the student's own sample), `fresh`
ours with the official order of passes, `eager` and `compile` PyTorch's, with
the official order. All have the same batch and weights and float32 products.
"""

import json
import pathlib
import resource
import statistics

import jax
import torch
from absl import flags

from benchmarks import agreement, flops, jax_step, sizes, timing, torch_step
from softdimo_jax import cli, families
from softdimo_jax.errors import UserError

PROGRAMS = ('shared', 'fresh', 'eager', 'compile')

_SIZE = flags.DEFINE_enum('size', 'medium', sizes.SIZES, 'What is trained.')
_BATCH = flags.DEFINE_integer(
  'batch_size', 0, "Rows; 0 is the size's own.", lower_bound=0
)
_PROGRAMS = flags.DEFINE_multi_enum(
  'program', PROGRAMS, PROGRAMS, 'Repeat to choose several.'
)
_ROUNDS = flags.DEFINE_integer('rounds', 7, 'Steps of each.', lower_bound=1)
_DROPOUT = flags.DEFINE_bool(
  'dropout', False, 'Dropout of student and auxiliary, rate 0.1.'
)
_CHECK = flags.DEFINE_bool('check', True, 'Compares losses before timing.')
_PROFILE = flags.DEFINE_string(
  'profile', None, 'Folder for a trace of one step of each program.'
)
_CLOCK = flags.DEFINE_enum(
  'clock',
  'wall',
  tuple(timing.CLOCKS),
  'processor: for a machine that others use, on one core (taskset -c 0).',
)
_OUT = flags.DEFINE_string('out', None, 'JSON file for what was measured.')


def main(argv: list[str]) -> None:
  """Checks, times, prints."""
  cli.no_arguments(argv)
  size = sizes.get(_SIZE.value, _BATCH.value)
  size.distillation.dropout = _DROPOUT.value
  size.model.generator.dropout = 0.1 if _DROPOUT.value else 0.0
  params = jax_step.made_up_params(families.build(size.model))
  result = {'size': _SIZE.value, 'batch_size': size.distillation.batch_size}
  if _CHECK.value:
    result['agreement'] = agreement.check(size, params)
    for name, (ours, theirs) in result['agreement'].items():
      print(f'{name:42} {ours:14.6f} {theirs:14.6f}')
  programs = {
    name: _program(name, size, params)
    for name in dict.fromkeys(_PROGRAMS.value)
  }
  times = timing.alternate(programs, _ROUNDS.value, clock=_CLOCK.value)
  result |= _report(size, programs, times)
  if _PROFILE.value:
    _trace(programs, pathlib.Path(_PROFILE.value))
  if _OUT.value:
    text = json.dumps(result, indent=2)
    pathlib.Path(_OUT.value).write_text(text + '\n', encoding='utf-8')


def _program(name, size, params):
  if name in ('shared', 'fresh'):
    return jax_step.JaxStep(size, params, fresh_sample=name == 'fresh')
  if jax.default_backend() != 'cpu':
    raise UserError(
      f'program {name} runs on the CPU, ours on {jax.default_backend()}: give '
      '--program=shared --program=fresh, or set JAX_PLATFORMS=cpu'
    )
  return torch_step.TorchStep(
    size.model.generator,
    size.distillation,
    params,
    compiled=name == 'compile',
  )


def _report(size, programs, times):
  device = jax.devices()[0].device_kind
  peak = flops.peak(device) or timing.measured_peak(clock=_CLOCK.value)
  forward = flops.maskgit_forward(size.model.generator)
  forward *= size.distillation.batch_size
  print(
    f'{device}, {jax.local_device_count()} device(s), '
    f'{torch.get_num_threads()} threads in torch; peak {peak / 1e9:.0f} GFLOP/s'
  )
  print('program     ms/step  min      max   passes  MFU    x eager  x compile')
  rows = {}
  for name, seconds in times.items():
    config = getattr(programs[name], 'config', size.distillation)
    passes = flops.dimo_passes(config).equivalent
    median = statistics.median(seconds)
    rows[name] = {
      'seconds': seconds,
      'passes': passes,
      'mfu': passes * forward / median / peak,
      'speed': {
        reference: timing.ratio(times, name, reference)
        for reference in ('eager', 'compile')
        if reference in times
      },
    }
    if hasattr(programs[name], 'memory'):
      rows[name]['planned_bytes'] = programs[name].memory()
    speeds = '  '.join(f'{x:7.2f}' for x in rows[name]['speed'].values())
    shown = (median, min(seconds), max(seconds))
    shown = ' '.join(f'{x * 1e3:8.1f}' for x in shown)
    mfu = rows[name]['mfu']
    print(f'{name:10} {shown} {passes:4d}   {mfu:5.1%}  {speeds}')
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  for name, row in rows.items():
    if 'planned_bytes' in row:
      print(f'{name}: {row["planned_bytes"] / 1e9:.2f} GB by the compiler')
  print(f'peak memory of the process, all programs: {memory / 1e9:.2f} GB')
  return {
    'device': device,
    'versions': {'jax': jax.__version__, 'torch': torch.__version__},
    'peak': peak,
    'programs': rows,
    'peak_memory': memory,
  }


def _trace(programs, folder: pathlib.Path) -> None:
  """TensorBoard traces of ours, Chrome traces of torch's."""
  for name, program in programs.items():
    (folder / name).mkdir(parents=True, exist_ok=True)
    if isinstance(program, jax_step.JaxStep):
      with jax.profiler.trace(str(folder / name)):
        program()
      continue
    with torch.profiler.profile() as profile:
      program()
    profile.export_chrome_trace(str(folder / name / 'trace.json'))
    table = profile.key_averages().table('self_cpu_time_total', row_limit=20)
    (folder / name / 'table.txt').write_text(table, encoding='utf-8')


if __name__ == '__main__':
  cli.run(main)
