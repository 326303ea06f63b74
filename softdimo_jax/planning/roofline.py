"""Memory, time and cost of a stage on a machine, which need not be attached."""

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections

from softdimo_jax.convert.rule_weights import RULE
from softdimo_jax.errors import UserError
from softdimo_jax.experiment.run import Run
from softdimo_jax.planning import compilation, flops, hlo
from softdimo_jax.planning.chips import Topology
from softdimo_jax.planning.estimate import kept_bytes, shard_bytes
from softdimo_jax.planning.programs import Program, program
from softdimo_jax.runtime import sharding


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
  """Options of a step that a plan may vary.

  Attributes:
    mesh: devices per mesh axis; one may be -1.
    batch: images per chip; None for the configuration's global batch.
    remat: key of `REMAT_POLICIES`; None for the configuration's.
  """

  mesh: Mapping[str, int]
  batch: int | None = None
  remat: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
  """Memory of a step, in bytes per chip.

  Attributes:
    arguments: train state, frozen networks and batch.
    temporaries: intermediate results.
    output: outputs that do not reuse the memory of an argument.
  """

  arguments: int
  temporaries: int
  output: int

  @property
  def total(self) -> int:
    """Peak bytes per chip."""
    return self.arguments + self.temporaries + self.output


@dataclasses.dataclass(frozen=True, kw_only=True)
class MachinePlan:
  """Plan of a step on a machine.

  Attributes:
    topology: the machine.
    mesh: devices per mesh axis.
    batch: images per global batch.
    remat: key of `REMAT_POLICIES`.
    memory: bytes per chip; None if the compiler ran out of memory.
    needed: bytes per chip that the compiler needed in that case, if known.
    compiled: whether the numbers are from the compiler; else estimated.
    model_flops: operations per step without recomputation.
    flops: operations per step including recomputation.
    traffic: bytes moved per chip; None without a compiler.
    steps: steps of the stage.
    price: dollars per chip-hour.
    utilization: highest expected share of peak FLOP/s.
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
    """Whether the step fits into the memory of a chip."""
    limit = self.topology.chip.memory
    return self.memory is not None and self.memory.total <= limit

  @property
  def bounds(self) -> dict[str, float]:
    """Lower bounds of the step time in seconds, by resource."""
    chip = self.topology.chip
    times = {'compute': self.flops / self.topology.num_chips / chip.peak}
    if self.traffic is not None:
      times['memory'] = self.traffic.memory / chip.bandwidth
      moved = self.traffic.collectives
      # A ring all-reduce sends the data twice: partial sums, then results.
      wire = sum(moved.values()) + moved.get('all-reduce', 0)
      times['network'] = wire / chip.link
    return times

  @property
  def bound_by(self) -> str:
    """The resource with the largest lower bound."""
    return max(self.bounds, key=self.bounds.__getitem__)

  @property
  def seconds(self) -> float:
    """Expected step time: the roofline, or compute at `utilization` of peak."""
    chips = self.topology.num_chips * self.topology.chip.peak
    expected = self.model_flops / chips / self.utilization
    return max(*self.bounds.values(), expected)

  @property
  def images_per_second(self) -> float:
    """Throughput of the whole machine."""
    return self.batch / self.seconds

  @property
  def hours(self) -> float:
    """Duration of the stage in hours."""
    return self.steps * self.seconds / 3600

  @property
  def dollars(self) -> float:
    """Cost of the stage in dollars."""
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
  """Compiles the step of a stage for a machine, or estimates it from shapes.

  Args:
    config: configuration of a run; no data or weights are loaded.
    stage: name of the stage.
    topology: the machine.
    choice: mesh, batch and remat.
    price: dollars per chip-hour; None for the list price.
    utilization: highest expected share of peak FLOP/s.

  Raises:
    UserError: for an invalid stage, mesh or batch.
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
    config.weights = RULE  # reads no files
  if choice.remat is not None:
    with config.unlocked():  # Small configurations lack this field.
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
    raise UserError(
      f'{error}, or give the images per chip with --batch'
    ) from error
  return sizes


def _compiled(
  step: Program,
  choice: Choice,
  topology: Topology,
  config: ml_collections.ConfigDict,
) -> tuple[Memory | None, int | None, hlo.Traffic | None]:
  """(memory or None, bytes needed if it does not fit, traffic or None)."""
  mesh = sharding.make_mesh(choice.mesh, compilation.compiler_devices(topology))
  split = 'mesh' not in config or config.mesh.frozen == 'sharded'
  try:
    compiled = compilation.compile_step(step, mesh, split_frozen=split)
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    return None, _needed(str(error)), None
  analysis: Any = compiled.memory_analysis()
  memory = Memory(
    arguments=analysis.argument_size_in_bytes,
    temporaries=analysis.temp_size_in_bytes,
    output=analysis.output_size_in_bytes - analysis.alias_size_in_bytes,
  )
  return memory, None, hlo.traffic(compiled.as_text() or '')


def _needed(message: str) -> int | None:
  used = re.search(r'[Uu]sed ([\d.]+)([GM]) of', message)
  if used is None:
    return None
  return int(float(used[1]) * {'G': 2**30, 'M': 2**20}[used[2]])


def _estimated(
  step: Program, sizes: dict[str, int], config: ml_collections.ConfigDict
) -> Memory:
  """Estimate from shapes: kept activations, and one gradient per parameter."""
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
