"""The stages of a run in order: what each needs and what it leaves behind.

Every stage has a folder in the workdir with its checkpoints, its curves and,
once finished, `params`: the averaged parameters that later stages read. A
stage with `params` is done and never trained again.
"""

import dataclasses
import functools
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import ml_collections
import numpy as np
from absl import logging

from softdimo_jax import families, generate
from softdimo_jax.data import batches, digits
from softdimo_jax.networks.classifier import DigitClassifier
from softdimo_jax.training import (
  checkpoint,
  classifier,
  distill,
  loop,
  teacher,
  tokenizer,
)
from softdimo_jax.training.preemption import PreemptionNotice
from softdimo_jax.training.state import Params, TrainState

_PARAMS = 'params'


@dataclasses.dataclass(frozen=True)
class Run:
  """A workdir with its configuration; everything else follows from them.

  Attributes:
    workdir: absolute path.
    config: validated configuration.
  """

  workdir: pathlib.Path
  config: ml_collections.ConfigDict

  @functools.cached_property
  def family(self) -> families.Family:
    """Generator and tokenizer."""
    return families.build(self.config.model)

  @functools.cached_property
  def classifier(self) -> DigitClassifier:
    """Module of the feature space and of the label judge."""
    return DigitClassifier(**self.config.classifier)

  @functools.cached_property
  def images(self) -> tuple[digits.ImageSplit, digits.ImageSplit]:
    """(train, held-out) images."""
    return digits.load(self.config.data.held_out)

  @functools.cached_property
  def tokens(self) -> np.ndarray:
    """Tokens int32 [N, L, G] of the training images."""
    return generate.encode(
      self.family, self.params('tokenizer'), self.images[0].images
    )

  def folder(self, stage: str) -> pathlib.Path:
    """Where a stage keeps its files."""
    return self.workdir / stage

  def done(self, stage: str) -> bool:
    """Whether the stage has left its parameters."""
    return (self.folder(stage) / _PARAMS).exists()

  def params(self, stage: str, role: str = 'model') -> Params:
    """Parameters that a finished stage left.

    Args:
      stage: its name.
      role: 'model' is the average of what the stage trained, a whole
        generator for teacher and distillation; 'auxiliary' is the whole
        auxiliary generator of a distillation.

    Raises:
      UserError: if the stage is not finished or the file is corrupt.
    """
    return checkpoint.load_params(self.folder(stage) / _PARAMS)[role]

  def export(self, stage: str, state: TrainState) -> None:
    """Writes what later stages and users read; marks the stage as done."""
    tree = {'model': state.model.ema}
    if self.config[stage].kind == 'distill':
      frozen = self.params('teacher')
      tree['model'] = self.family.merge(state.model.ema, frozen)
      if state.auxiliary is not None:
        trained = state.auxiliary.params
        tree['auxiliary'] = self.family.merge(trained, frozen)
    checkpoint.save_params(self.folder(stage) / _PARAMS, jax.device_get(tree))

  def seed(self, stage: str) -> int:
    """Seed of a stage: of its name and its own seed, else the run's."""
    seed = self.config[stage].get('seed', self.config.seed)
    return zlib.crc32(f'{stage}/{seed}'.encode())


def train(run: Run, mesh: jax.sharding.Mesh, notice: PreemptionNotice) -> None:
  """Runs the stages that are not done, in order.

  Args:
    run: workdir and configuration.
    mesh: devices.
    notice: where signals arrive.

  Raises:
    Preempted: after saving, if a signal came.
    UserError: for corrupt files or a diverged stage.
  """
  options = loop.LoopOptions(**run.config.loop)
  for name in run.config.stages:
    notice.check()
    if run.done(name):
      logging.info('stage %s is done', name)
      continue
    run.folder(name).mkdir(parents=True, exist_ok=True)
    stage = _STAGES[run.config[name].kind](run, name)
    state = loop.run(stage, run.folder(name), mesh, options, notice)
    run.export(name, state)


def _keys(run: Run, name: str) -> tuple[jax.Array, jax.Array]:
  """(key of the initial parameters, key of the steps)."""
  init_key, step_key = jax.random.split(jax.random.key(run.seed(name)))
  return init_key, step_key


def _iterator(run: Run, name: str, arrays: Mapping[str, np.ndarray]) -> Any:
  size = run.config[name].batch_size
  return batches.shuffled_batches(arrays, size, run.seed(name))


def _classifier_stage(run: Run, name: str) -> loop.Stage:
  split, config = run.images[0], run.config[name]
  trainer = classifier.trainer(run.classifier, config)
  init_key, step_key = _keys(run, name)
  example = split.images[:1]
  return loop.Stage(
    name=name,
    steps=config.steps,
    step=trainer.step,
    init=lambda key: trainer.init(run.classifier.init(key, example)['params']),
    start=init_key,
    frozen=None,
    iterator=_iterator(
      run, name, {'image': split.images, 'label': split.labels}
    ),
    key=step_key,
    headline=('cross_entropy', 'accuracy'),
  )


def _tokenizer_stage(run: Run, name: str) -> loop.Stage:
  images, config = run.images[0].images, run.config[name]
  module = run.family.tokenizer
  trainer = tokenizer.trainer(module, config)
  init_key, step_key = _keys(run, name)
  return loop.Stage(
    name=name,
    steps=config.steps,
    step=trainer.step,
    init=lambda key: trainer.init(module.init(key, images[:1])['params']),
    start=init_key,
    frozen=None,
    iterator=_iterator(run, name, {'image': images}),
    key=step_key,
    headline=('reconstruction',),
  )


def _teacher_stage(run: Run, name: str) -> loop.Stage:
  config = run.config[name]
  trainer = teacher.trainer(run.family, config)
  init_key, step_key = _keys(run, name)
  return loop.Stage(
    name=name,
    steps=config.steps,
    step=trainer.step,
    init=lambda key: trainer.init(run.family.init(key)),
    start=init_key,
    frozen=None,
    iterator=_iterator(run, name, _tokens_and_labels(run)),
    key=step_key,
    headline=('cross_entropy', 'masked_accuracy'),
  )


def _distill_stage(run: Run, name: str) -> loop.Stage:
  config, start = run.config[name], run.config[name].start
  distiller = distill.Distiller.create(run.family, config)
  init_key, step_key = _keys(run, name)
  role = 'auxiliary' if run.config[start].kind == 'distill' else 'model'
  iterator = None
  if config.gan.weight > 0:
    iterator = _iterator(run, name, _tokens_and_labels(run))
  headline = ('student/max_probability',)
  if config.divergence.weight > 0:
    headline += ('dimo/discrepancy', 'auxiliary/cross_entropy')
  if config.gan.weight > 0:
    headline += ('gan/discriminator_accuracy',)
  return loop.Stage(
    name=name,
    steps=config.steps,
    step=distiller.step,
    init=lambda start: distiller.init(*start),
    start=(init_key, run.params(start), run.params(start, role)),
    frozen=run.params('teacher'),
    iterator=iterator,
    key=step_key,
    headline=headline,
  )


def _tokens_and_labels(run: Run) -> dict[str, np.ndarray]:
  return {'tokens': run.tokens, 'label': run.images[0].labels}


_STAGES = {
  'classifier': _classifier_stage,
  'tokenizer': _tokenizer_stage,
  'teacher': _teacher_stage,
  'distill': _distill_stage,
}
