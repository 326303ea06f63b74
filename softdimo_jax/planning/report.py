"""Formats plans as text."""

from collections.abc import Sequence

from softdimo_jax.planning.roofline import MachinePlan

_GIB = 2**30


def table(stage: str, plan: MachinePlan) -> str:
  """All numbers of one plan, as a table of two columns."""
  chip, rows = plan.topology.chip, _head(stage, plan)
  rows += _memory(plan)
  chips = plan.topology.num_chips
  rows += [
    ('operations per step', f'{plan.model_flops / 1e12:,.1f} TFLOP'),
    ('  with recomputation', f'{plan.flops / 1e12:,.1f} TFLOP'),
    (
      '  per image',
      f'{plan.model_flops / plan.batch / 1e12:.3f} TFLOP',
    ),
  ]
  if plan.traffic is not None:
    moved = plan.traffic.collectives
    rows.append(('bytes between chips, per chip and step', ''))
    rows += [
      (f'  {kind}', f'{size / 1e6:,.1f} MB')
      for kind, size in sorted(moved.items())
    ] or [('  none', '')]
  rows.append(('lower bounds per step', ''))
  rows += [
    (f'  by {name}', f'{seconds * 1e3:,.1f} ms')
    for name, seconds in plan.bounds.items()
  ]
  share = plan.model_flops / chips / chip.peak / plan.seconds
  rows += [
    ('bound by', plan.bound_by),
    (f'expected, with at most {plan.utilization:.0%} of the peak', ''),
    ('  per step', f'{plan.seconds * 1e3:,.1f} ms, MFU {share:.0%}'),
    ('  images/s', f'{plan.images_per_second:,.0f}'),
    (f'  {plan.steps:,} steps', f'{plan.hours:,.1f} h'),
    (f'  at ${plan.price:.2f} per chip-hour', f'${plan.dollars:,.0f}'),
  ]
  width = max(len(name) for name, _ in rows)
  return '\n'.join(f'{name:<{width}}  {value}'.rstrip() for name, value in rows)


def _head(stage: str, plan: MachinePlan) -> list[tuple[str, str]]:
  count = plan.topology.num_chips
  how = 'compiled' if plan.compiled else 'estimated from shapes'
  return [
    ('stage', f'{stage}, {how}'),
    ('machine', f'{plan.topology.name}: {count} {plan.topology.chip.title}'),
    ('mesh', _mesh(plan)),
    ('batch', f'{plan.batch} images, {plan.batch / count:g} per chip'),
    ('remat', plan.remat),
  ]


def _memory(plan: MachinePlan) -> list[tuple[str, str]]:
  limit = plan.topology.chip.memory
  if plan.memory is None:
    needed = f'{plan.needed / _GIB:.2f} GiB' if plan.needed else 'more'
    return [
      ('memory per chip', f'{needed} of {limit / _GIB:.2f}: does not fit')
    ]
  size = lambda value: f'{value / _GIB:.2f} GiB'
  return [
    ('memory per chip', ''),
    ('  arguments', size(plan.memory.arguments)),
    ('  temporaries', size(plan.memory.temporaries)),
    ('  output', size(plan.memory.output)),
    (
      '  total',
      f'{size(plan.memory.total)} of {limit / _GIB:.2f}: '
      + ('fits' if plan.fits else 'does not fit'),
    ),
  ]


def _mesh(plan: MachinePlan) -> str:
  return ','.join(f'{k}:{v}' for k, v in plan.mesh.items() if v > 1) or 'data:1'


def comparison(stage: str, plans: Sequence[MachinePlan]) -> str:
  """One line per plan, and a recommendation."""
  head = (
    'mesh', 'batch/chip', 'remat', 'GiB/chip', 'bound by', 'ms/step',
    'images/s', 'hours', '$',
  )  # fmt: skip
  lines = [head, *map(_line, plans)]
  widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
  text = [
    '  '.join(f'{x:>{w}}' for x, w in zip(line, widths, strict=True))
    for line in lines
  ]
  good = [plan for plan in plans if plan.fits]
  if not good:
    advice = 'none fits: give fsdp more devices, or lower --batch'
  else:
    best = max(good, key=lambda plan: plan.images_per_second)
    advice = (
      f'recommended: --mesh={_mesh(best)} --remat={best.remat} with '
      f'{best.batch} images per batch'
    )
  return '\n'.join([f'stage {stage}', *text, advice])


def _line(plan: MachinePlan) -> tuple[str, ...]:
  if plan.memory is None:
    memory = f'> {plan.topology.chip.memory / _GIB:.2f}'
  else:
    memory = f'{plan.memory.total / _GIB:.2f}'
  each = plan.batch / plan.topology.num_chips
  shown = (
    plan.bound_by,
    f'{plan.seconds * 1e3:,.1f}',
    f'{plan.images_per_second:,.0f}',
    f'{plan.hours:,.1f}',
    f'{plan.dollars:,.0f}',
  )
  if not plan.fits:
    shown = ('does not fit', '-', '-', '-', '-')
  return (_mesh(plan), f'{each:g}', plan.remat, memory, *shown)
