"""Estimates memory, time and cost of a training step on a given machine.

  python -m softdimo_jax.plan --config=configs/maskbit.py --topology=v5e:16x16

compiles the training step with the TPU compiler (no TPU is needed: pip install
'softdimo_jax[plan]') and prints memory, arithmetic, communication, time and
cost; `--sweep` compares batch sizes, remat policies and meshes. For GPUs the
numbers are estimated from shapes. docs/performance.md explains the columns.
"""

import itertools
import re
from collections.abc import Mapping

import jax
import ml_collections
from absl import flags

from softdimo_jax import defaults
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import config_flag, validation
from softdimo_jax.networks.layers import REMAT_POLICIES
from softdimo_jax.planning import chips, report
from softdimo_jax.planning.roofline import Choice, MachinePlan, make_plan
from softdimo_jax.runtime import bounds, cli, flag_types, sharding

_CONFIG = config_flag.define('configs/maskbit.py')
_TOPOLOGY = flags.DEFINE_string(
  'topology',
  None,
  'Chip and shape, e.g. v5e:16x16, v5p:4x4x4, v6e:8x8 or h100:8.',
)
_STAGE = flags.DEFINE_string(
  'stage', None, 'Stage of the configuration; default: its last.'
)
_MESH = flags.DEFINE_multi_string(
  'mesh',
  None,
  "Devices per mesh axis, e.g. data:64,fsdp:4; default: the configuration's. "
  'Repeat the flag for --sweep.',
)
_BATCH = flag_types.counts(
  'batch',
  "Images per chip; default: the configuration's global batch. Repeat the flag "
  'for --sweep.',
)
_REMAT = flags.DEFINE_multi_enum(
  'remat',
  None,
  list(REMAT_POLICIES),
  'What the backward pass recomputes: nothing, all but matrix products, or '
  "everything; default: the configuration's policy.",
)
_SWEEP = flags.DEFINE_bool(
  'sweep', False, 'Compare batch sizes, remat policies and meshes.'
)
_PRICE = flag_types.number(
  'price',
  None,
  'Price in dollars per chip-hour; default: the list price.',
  bounds.NOT_NEGATIVE,
)
_MFU = flag_types.number(
  'mfu', 0.4, 'Highest expected share of peak FLOP/s.', bounds.Bounds(0.001, 1)
)


def main(argv: list[str]) -> None:
  """Prints the plan."""
  cli.no_arguments(argv)
  # Nothing runs here, so accelerators of this machine stay free.
  jax.config.update('jax_platforms', 'cpu')
  settings = config_flag.read(_CONFIG)
  _validate(settings)
  try:
    topology = chips.parse_topology(_TOPOLOGY.value or '')
    meshes = [parse_mesh(text) for text in _MESH.value or ()]
  except ValueError as error:
    raise UserError(f'--{error}') from error
  meshes = meshes or _meshes(settings, topology)
  stage = _STAGE.value or settings.stages[-1]
  plan = lambda choice: make_plan(
    settings,
    stage,
    topology,
    choice,
    price=_PRICE.value,
    utilization=_MFU.value,
  )
  batches, remats = _BATCH.value or [None], _REMAT.value or [None]
  if _SWEEP.value:
    plans = sweep(
      plan, meshes, _REMAT.value or ['dots', 'full'], _BATCH.value or [8, 16]
    )
    print(report.comparison(stage, plans))
    return
  for name, values in (('mesh', meshes), ('batch', batches), ('remat', remats)):
    if len(values) > 1:
      raise UserError(f'--{name} is given more than once; add --sweep')
  choice = Choice(mesh=meshes[0], batch=batches[0], remat=remats[0])
  print(report.table(stage, plan(choice)))


def sweep(plan, meshes, remats, batches) -> list[MachinePlan]:
  """Plans of all choices; skips batches larger than one that does not fit."""
  plans = []
  for mesh, remat in itertools.product(meshes, remats):
    for batch in sorted(batches):
      plans.append(plan(Choice(mesh=mesh, batch=batch, remat=remat)))
      if not plans[-1].fits:
        break
  return plans


def parse_mesh(text: str) -> dict[str, int]:
  """Parses 'data:64,fsdp:4'; `data` defaults to the remaining devices (-1).

  Raises:
    ValueError: for another format, an unknown axis or one named twice, or a
      size below 1.
  """
  sizes: dict[str, int] = {}
  for part in text.split(','):
    axis, _, size = part.partition(':')
    # ASCII only: `int` also reads digits of other scripts.
    if axis not in sharding.AXES or not re.fullmatch('[1-9][0-9]*', size):
      raise ValueError(
        f'mesh={text}: write AXIS:SIZE,... with axes of {sharding.AXES} and '
        'sizes from 1, such as data:64,fsdp:4'
      )
    if axis in sizes:
      raise ValueError(f'mesh={text}: the axis {axis} is named twice')
    sizes[axis] = int(size)
  return {'data': -1} | sizes


def _validate(config: ml_collections.ConfigDict) -> None:
  """Validates all but the mesh, which does not describe this machine."""
  config = config.copy_and_resolve_references()
  if 'mesh' in config:
    config.mesh = defaults.mesh()
  validation.validate(config)


def _meshes(
  config: ml_collections.ConfigDict, topology: chips.Topology
) -> list[Mapping[str, int]]:
  """The configuration's mesh; in a sweep, pure data parallel and fsdp:4."""
  if not _SWEEP.value:
    return [config.get('mesh', {'data': -1})]
  quarter = [{'data': -1, 'fsdp': 4}] if topology.num_chips % 4 == 0 else []
  return [{'data': -1}, *quarter]


if __name__ == '__main__':
  # Here, because programs that import this module have other flags.
  flags.mark_flags_as_required(['config', 'topology'])
  cli.run(main)
