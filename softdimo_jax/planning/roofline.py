"""Memory, time and cost of a stage on a machine that need not be there."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections

from softdimo_jax.errors import UserError
from softdimo_jax.experiment.run import Run
from softdimo_jax.planning import compilation, flops, hlo
from softdimo_jax.planning.chips import Topology
from softdimo_jax.planning.estimate import kept_bytes, shard_bytes
from softdimo_jax.planning.programs import Program, program
from softdimo_jax.runtime import sharding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
  """What can be chosen for a step.

  Attributes:
    mesh: sizes by axis; one may be -1.
    batch: images a chip, or None for the configuration's global batch.
    remat: what the backward pass keeps, or None for the configuration's.
  """

  mesh: Mapping[str, int]
  batch: int | None = None
  remat: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
  """Bytes a chip.

  Attributes:
    arguments: state, frozen networks and batch.
    temporaries: what the step makes and drops.
    output: what it returns and did not take over from its arguments.
  """

  arguments: int
  temporaries: int
  output: int

  @property
  def total(self) -> int:
    """That have to fit at once."""
    return self.arguments + self.temporaries + self.output


@dataclasses.dataclass(frozen=True, kw_only=True)
class MachinePlan:
  """A step on a machine.

  Attributes:
    topology: the machine.
    mesh: devices by axis.
    batch: images of a global batch.
    remat: what the backward pass keeps.
    memory: bytes a chip; None if the compiler found that it does not fit.
    needed: bytes a chip that it asked for then, if it said so.
    compiled: whether the compiler made it; else it is an estimate.
    model_flops: operations of one step without any recomputation.
    flops: those that run, recomputation included.
    traffic: bytes that a chip moves; None without a compiler.
    steps: of the configured run.
    price: dollars for a chip and hour.
    utilization: share of the peak that is expected at most.
  """

  topology: Topology
  mesh: dict[str, int]
  batch: int
  remat: str
  memory: Memory | None
  needed: int | None
  compiled: bool
  model_flops: int
  flops: int
  traffic: hlo.Traffic | None
  steps: int
  price: float
  utilization: float

  @property
  def fits(self) -> bool:
    """Whether it fits into the memory of a chip."""
    limit = self.topology.chip.memory
    return self.memory is not None and self.memory.total <= limit

  @property
  def bounds(self) -> dict[str, float]:
    """Seconds a step needs at least, by what it waits for."""
    chip = self.topology.chip
    times = {'compute': self.flops / self.topology.num_chips / chip.peak}
    if self.traffic is not None:
      times['memory'] = self.traffic.memory / chip.bandwidth
      moved = self.traffic.collectives
      # A ring sends the sum around, then the result.
      wire = sum(moved.values()) + moved.get('all-reduce', 0)
      times['network'] = wire / chip.link
    return times

  @property
  def bound_by(self) -> str:
    """What the roofline waits for."""
    return max(self.bounds, key=self.bounds.get)

  @property
  def seconds(self) -> float:
    """Expected time of a step: the roofline, or `utilization` of the peak."""
    chips = self.topology.num_chips * self.topology.chip.peak
    expected = self.model_flops / chips / self.utilization
    return max(*self.bounds.values(), expected)

  @property
  def images_per_second(self) -> float:
    """Of the whole machine."""
    return self.batch / self.seconds

  @property
  def hours(self) -> float:
    """Of the configured run."""
    return self.steps * self.seconds / 3600

  @property
  def dollars(self) -> float:
    """Of the configured run."""
    return self.hours * self.topology.num_chips * self.price


def make_plan(
  config: ml_collections.ConfigDict,
  stage: str,
  topology: Topology,
  choice: Choice,
  *,
  price: float | None = None,
  utilization: float = 0.4,
) -> MachinePlan:
  """Compiles the stage's step for the machine, or estimates it.

  Args:
    config: of a run; nothing of it is loaded.
    stage: its name.
    topology: the machine.
    choice: mesh, batch and remat.
    price: dollars for a chip and hour instead of the list price.
    utilization: share of the peak to expect at most.

  Raises:
    UserError: for a stage, mesh or batch that cannot be.
  """
  config = _chosen(config, stage, topology, choice)
  run = Run(pathlib.Path('/'), config)
  step = program(run, stage)
  sizes = _sizes(choice.mesh, topology, config[stage])
  remat = config.model.generator.get('remat', 'none')
  needed, traffic = None, None
  if topology.chip.compiler is None:
    memory = _estimated(step, sizes, config)
  else:
    memory, needed, traffic = _compiled(step, choice, topology, config)
  plain = config.copy_and_resolve_references()
  plain.model.generator.remat = 'none'
  return MachinePlan(
    topology=topology,
    mesh=sizes,
    batch=config[stage].batch_size,
    remat=remat,
    memory=memory,
    needed=needed,
    compiled=topology.chip.compiler is not None,
    model_flops=_flops(program(Run(pathlib.Path('/'), plain), stage)),
    flops=_flops(step),
    traffic=traffic,
    steps=config[stage].steps,
    price=topology.chip.price if price is None else price,
    utilization=utilization,
  )


def _chosen(
  config: ml_collections.ConfigDict,
  stage: str,
  topology: Topology,
  choice: Choice,
) -> ml_collections.ConfigDict:
  config = config.copy_and_resolve_references()
  if 'weights' in config:
    config.weights = 'rule'  # nothing is looked for
  if choice.remat is not None:
    with config.unlocked():  # Small configurations do not name it.
      config.model.generator.remat = choice.remat
  if choice.batch is not None and stage in config:
    config[stage].batch_size = choice.batch * topology.num_chips
  return config


def _sizes(
  mesh: Mapping[str, int],
  topology: Topology,
  stage: ml_collections.ConfigDict,
) -> dict[str, int]:
  try:
    sizes = sharding.mesh_shape(mesh, topology.num_chips)
  except ValueError as error:
    raise UserError(f'--mesh: {error}') from error
  try:
    sharding.check_batch(
      'batch_size',
      stage.batch_size,
      sizes['data'] * sizes['fsdp'],
      stage.get('accumulation', 1),
    )
  except ValueError as error:
    raise UserError(f'{error}, or give --batch, images a chip') from error
  return sizes


def _compiled(
  step: Program,
  choice: Choice,
  topology: Topology,
  config: ml_collections.ConfigDict,
) -> tuple[Memory | None, int | None, hlo.Traffic | None]:
  """(memory, what was asked for if it does not fit, traffic)."""
  mesh = sharding.make_mesh(choice.mesh, compilation.compiler_devices(topology))
  split = 'mesh' not in config or config.mesh.frozen == 'sharded'
  try:
    compiled = compilation.compile_step(step, mesh, split_frozen=split)
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    return None, _asked_for(str(error)), None
  found = compiled.memory_analysis()
  memory = Memory(
    arguments=found.argument_size_in_bytes,
    temporaries=found.temp_size_in_bytes,
    output=found.output_size_in_bytes - found.alias_size_in_bytes,
  )
  return memory, None, hlo.traffic(compiled.as_text())


def _asked_for(message: str) -> int | None:
  found = re.search(r'[Uu]sed ([\d.]+)([GM]) of', message)
  if found is None:
    return None
  return int(float(found[1]) * {'G': 2**30, 'M': 2**20}[found[2]])


def _estimated(
  step: Program, sizes: dict[str, int], config: ml_collections.ConfigDict
) -> Memory:
  """From shapes alone: kept activations, and one gradient a parameter."""
  split = 'mesh' not in config or config.mesh.frozen == 'sharded'
  whole = dict.fromkeys(sizes, 1)
  pieces = sizes['data'] * sizes['fsdp']
  state = shard_bytes(step.state, sizes)
  trained = [
    role.params
    for role in (
      step.state.model, step.state.auxiliary, step.state.discriminator
    )
    if role is not None
  ]  # fmt: skip
  return Memory(
    arguments=state
    + shard_bytes(step.frozen, sizes if split else whole)
    + shard_bytes(step.batch, whole) // pieces,
    temporaries=kept_bytes(step.step, *_arguments(step)) // pieces
    + shard_bytes(trained, sizes),
    output=0,
  )


def _flops(step: Program) -> int:
  return flops.count_flops(step.step, *_arguments(step))


def _arguments(step: Program) -> tuple[Any, ...]:
  key = jax.eval_shape(lambda: jax.random.key(0))
  return step.state, step.batch, step.frozen, key
