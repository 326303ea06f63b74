"""Compiles the training step for chips that are not attached."""

import importlib.util
import os
from typing import Any

import jax
from jax.experimental import topologies

from softdimo_jax.errors import UserError
from softdimo_jax.planning.chips import Topology
from softdimo_jax.planning.programs import Program
from softdimo_jax.runtime import sharding
from softdimo_jax.training import loop


def compiler_devices(topology: Topology) -> list[Any]:
  """Devices of a topology, for compilation by libtpu.

  Raises:
    UserError: if libtpu is not installed, or does not have this topology.
  """
  compiler = topology.chip.compiler
  if compiler is None or importlib.util.find_spec('libtpu') is None:
    raise UserError(
      f'--topology={topology.name} needs the TPU compiler (not a TPU): pip '
      "install 'softdimo_jax[plan]'"
    )
  name, kind = compiler
  shape = topology.shape
  count = topology.num_chips * topology.chip.cores
  # libtpu reads these variables instead of asking a machine.
  os.environ.setdefault('TPU_SKIP_MDS_QUERY', '1')
  os.environ.setdefault('ALLOW_MULTIPLE_LIBTPU_LOAD', '1')  # no chip is used
  os.environ.setdefault('TPU_WORKER_HOSTNAMES', 'localhost')
  os.environ['TPU_ACCELERATOR_TYPE'] = f'{kind}-{count}'
  bounds = (*(min(size, 2) for size in shape[:2]), 1)
  try:
    description = topologies.get_topology_desc(
      platform='tpu',
      topology_name=f'{name}:{"x".join(map(str, shape))}',
      chips_per_host_bounds=bounds,
      num_slices=1,
      wrap=(False,) * 3,
    )
  except Exception as error:  # The plugin documents no type.
    reason = str(error).strip().splitlines()[0]
    raise UserError(
      f'--topology={topology.name}: the TPU compiler rejects it ({reason}); '
      'choose a shape that this TPU is offered in, e.g. v5e:4x4 or v5p:2x2x4'
    ) from error
  return list(description.devices)


def compile_step(
  program: Program, mesh: jax.sharding.Mesh, *, split_frozen: bool
) -> jax.stages.Compiled:
  """Compiles the step that `loop.run` would run on this mesh.

  Args:
    program: step and shapes.
    mesh: devices of this machine or of a topology.
    split_frozen: see `loop.LoopOptions`.
  """
  with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
    return lower_step(program, mesh, split_frozen=split_frozen).compile()


def lower_step(
  program: Program, mesh: jax.sharding.Mesh, *, split_frozen: bool
) -> jax.stages.Lowered:
  """Lowers the step for a mesh, without compiling it."""
  layout = sharding.layout(program.state, mesh)
  replicated = jax.NamedSharding(mesh, sharding.REPLICATED)
  batch = jax.NamedSharding(mesh, sharding.BATCH)
  frozen = sharding.layout(program.frozen, mesh, split=split_frozen)
  key = jax.eval_shape(lambda: jax.random.key(0))
  return loop.compile_once(program.step, layout, mesh).lower(
    sharding.abstract(program.state, layout),
    _on(program.batch, batch),
    sharding.abstract(program.frozen, frozen),
    _on(key, replicated),
  )


def _on(tree: Any, named: jax.NamedSharding) -> Any:
  return sharding.abstract(tree, jax.tree.map(lambda _: named, tree))
