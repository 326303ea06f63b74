"""A run: a workdir, its configuration, and everything derived from the two.

Every stage has a folder in the workdir with its record, checkpoints, curves
and, once finished, `params`: the averaged parameters that later stages read. A
stage with `params` is done; `branching` ensures that it is a stage of the
configuration. Parameters that a run does not train come from
`config.pretrained`.
"""

import dataclasses
import functools
import pathlib
import zlib
from collections.abc import Iterable

import jax
import ml_collections

from softdimo_jax import families
from softdimo_jax.convert.rule_weights import RULE
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import pretrained, records, replaced
from softdimo_jax.experiment.inputs import Draw, Inputs, open_inputs
from softdimo_jax.families.family import Family
from softdimo_jax.networks.generators.condition import TextCondition
from softdimo_jax.runtime import checkpoint, sharding
from softdimo_jax.training import points
from softdimo_jax.training.distill.reward_term import used_terms
from softdimo_jax.training.state import TrainState
from softdimo_jax.types import Params

PARAMS, CHECKPOINTS = 'params', 'checkpoints'
STUDENTS = ('distill', 'rectify')
GENERATORS = ('teacher', *STUDENTS)


@dataclasses.dataclass(frozen=True)
class Run:
  """A workdir with its configuration; everything else is derived from them.

  Attributes:
    workdir: absolute path.
    config: validated configuration.
  """

  workdir: pathlib.Path
  config: ml_collections.ConfigDict

  @functools.cached_property
  def mesh(self) -> jax.sharding.Mesh:
    """Training devices of all processes."""
    return sharding.make_mesh(self.config.get('mesh'))

  @property
  def splits_frozen(self) -> bool:
    """Whether frozen networks are sharded like the state."""
    return 'mesh' not in self.config or self.config.mesh.frozen == 'sharded'

  @functools.cached_property
  def family(self) -> Family:
    """Generator, tokenizer and text tower."""
    return families.build(self.config.model)

  @functools.cached_property
  def inputs(self) -> Inputs:
    """The data, and the reader of labels or prompts."""
    return open_inputs(self.config, self.family, self.params)

  @property
  def null(self) -> TextCondition | None:
    """The unconditional prompt, a batch of 1; None means the null class."""
    return self.inputs.null

  def reward_params(self, names: Iterable[str]) -> dict[str, Params]:
    """Parameters of rewards, by name."""
    return self.inputs.reward_params(names)

  def check_inputs(self, left: Iterable[str] | None = None) -> None:
    """Checks for missing inputs before anything is trained or written.

    Args:
      left: stages to train; by default those that are not done.

    Raises:
      UserError: if weights or data are missing or do not fit.
    """
    self.check_pretrained()
    left = self.left if left is None else tuple(left)
    read = {x for name in left for x in records.reads(self.config, name).stages}
    if self.config.get('weights') != RULE:
      for stage in sorted(self._needed(read)):
        self.params(stage)
    kinds = {name: self.config[name].kind for name in left}
    self.inputs.check(list(kinds.values()), any(map(self._reads_tokens, left)))
    rewarded = {
      name
      for stage in left
      if kinds[stage] == 'distill'
      for name in used_terms(self.config[stage].reward)
    }
    self.inputs.rewards(rewarded)

  def check_pretrained(self) -> None:
    """Checks that no pretrained network was replaced since it was read.

    Raises:
      UserError: naming the first one that was.
    """
    for name in self.config.stages:
      replaced.check(self.folder(name), self.config, name)

  @property
  def left(self) -> tuple[str, ...]:
    """Stages that are not done, in order."""
    return tuple(x for x in self.config.stages if not self.done(x))

  def lacks(self, stages: Iterable[str]) -> list[str]:
    """Those of the stages that this run neither trains nor loads."""
    known = (*self.config.stages, *self.config.get('pretrained', {}))
    return [x for x in dict.fromkeys(stages) if x not in known]

  def _needed(self, read: set[str]) -> set[str]:
    """Stages that are read but not trained by this run."""
    needed = read | self.inputs.needed
    if not self.config.stages:  # a run that only samples
      needed |= set(self.config.pretrained) - {'teacher', 'dimo'}
    return needed - set(self.config.stages)

  def _reads_tokens(self, stage: str) -> bool:
    config = self.config[stage]
    return config.kind == 'teacher' or (
      config.kind == 'distill' and config.gan.weight > 0
    )

  def generator(self, name: str | None = None) -> str:
    """The stage to sample from: `name`, or by default the last one.

    Raises:
      UserError: if the run has no such generator.
    """
    generators = [
      stage
      for stage in (*self._given, *self.config.stages)
      if self.config.get(stage, {}).get('kind') in GENERATORS
    ]
    if not generators:
      raise UserError('this run has no generator to sample from')
    stage = name or generators[-1]
    if stage not in generators:
      raise UserError(
        f'--model={stage} is not one of this run: {", ".join(generators)}'
      )
    return stage

  @property
  def _given(self) -> list[str]:
    """Pretrained stages, the most distilled last."""
    config = self.config
    rule = config.get('weights') == RULE

    def distance(name: str) -> int:
      starts = 0
      while 'start' in config.get(name, {}) and starts < len(config):
        name, starts = config[name].start, starts + 1
      return starts

    names = [
      name
      for name, folder in config.get('pretrained', {}).items()
      if (folder or rule) and name not in config.stages
    ]
    return sorted(names, key=distance)

  def folder(self, stage: str) -> pathlib.Path:
    """Folder of a stage."""
    return self.workdir / stage

  def done(self, stage: str) -> bool:
    """Whether the stage is finished."""
    return (self.folder(stage) / PARAMS).exists()

  def params(self, stage: str, role: str = 'model') -> Params:
    """Parameters of a finished or pretrained stage.

    Args:
      stage: name of the stage.
      role: 'model' is the averaged network of the stage, a whole generator for
        teacher and distillation: the last one, or the best if
        `loop.keep_best` names a metric. 'last' is the last one in both cases;
        'auxiliary' is the whole auxiliary generator of a distillation, the last
        one.

    Raises:
      UserError: if the stage is unknown or not finished, or a file is missing,
        corrupt or of another model.
    """
    if stage in self.config.stages:
      found = checkpoint.load_params(self.folder(stage) / PARAMS).get(role)
    elif stage in self.config.get('pretrained', {}):
      weights, folder = self.config.weights, self.config.pretrained[stage]
      found = pretrained.load(self.family, stage, weights, folder, role)
    else:
      raise UserError(
        f'stage {stage} is read, but neither config.stages nor '
        'config.pretrained names it'
      )
    # A distillation without a divergence has no auxiliary, and only students
    # are published: the auxiliary then starts from the teacher, as in Alg. 1.
    if found is None:
      return self.params('teacher' if role == 'auxiliary' else stage)
    return found

  def export(self, stage: str, state: TrainState) -> None:
    """Writes the parameters that later stages read; marks the stage as done."""
    tree = {'model': state.model.ema}
    if self.config[stage].kind in STUDENTS:
      frozen = self.params('teacher')
      tree['model'] = self.family.merge(state.model.ema, frozen)
      step = self.best_step(stage)
      if step is not None:
        tree['last'] = tree['model']
        best = points.best_params(self.folder(stage), step)
        tree['model'] = self.family.merge(best, frozen)
      if state.auxiliary is not None:
        trained = state.auxiliary.params
        tree['auxiliary'] = self.family.merge(trained, frozen)
    checkpoint.save_params(self.folder(stage) / PARAMS, tree)

  def best_step(self, stage: str) -> int | None:
    """Step of a stage's best state, if `loop.keep_best` keeps one."""
    if not self.config.loop.get('keep_best'):
      return None
    record = points.best_record(self.folder(stage))
    return None if record is None else record['step']

  def seed(self, stage: str) -> int:
    """Seed of a stage, from its name and its seed (default: the run's)."""
    seed = self.config[stage].get('seed', self.config.seed)
    return zlib.crc32(f'{stage}/{seed}'.encode())

  def draw(self, stage: str) -> Draw:
    """How the stage draws its batches."""
    size = self.config[stage].batch_size
    rows = sharding.process_rows(self.mesh, size)
    return Draw(size, self.seed(stage), rows)
