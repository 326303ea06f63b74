"""The stages of a run in order: what each needs and what it leaves behind.

Every stage has a folder in the workdir with its checkpoints, its curves and,
once finished, `params`: the averaged parameters that later stages read. A
stage with `params` is done and never trained again. What a run does not train
itself it takes from `config.pretrained`.
"""

import dataclasses
import functools
import pathlib
import zlib
from collections.abc import Mapping

import grain
import jax
import ml_collections
import numpy as np
from absl import logging

from softdimo_jax import families, generate, pretrained
from softdimo_jax.data import batches, images, splits
from softdimo_jax.data.image_source import ImageSource
from softdimo_jax.data.token_cache import TokenCache
from softdimo_jax.errors import UserError
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
# Images whose made-up tokens stand for a token cache with weights by rule.
_MADE_UP = 1024


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

  @property
  def streams(self) -> bool:
    """Whether the data is read from disk: its configuration names tokens."""
    return 'tokens' in self.config.data

  @functools.cached_property
  def images(self) -> tuple[splits.ImageSplit, splits.ImageSplit]:
    """(train, held-out) images, of data that fits into memory."""
    return splits.load_splits(self.config.data, self.family.image_shape)

  @functools.cached_property
  def tokens(self) -> np.ndarray:
    """Tokens int32 [N, L, G] of the training images in memory."""
    return generate.encode(
      self.family, self.params('tokenizer'), self.images[0].images
    )

  @functools.cached_property
  def token_cache(self) -> TokenCache:
    """Tokens on disk, of this run's tokenizer.

    Raises:
      UserError: if there are none, or they are another tokenizer's.
    """
    folder = self.config.data.tokens
    if not folder:
      raise UserError(
        'config.data.tokens names no token cache: write one (python -m '
        f'softdimo_jax.tokenize_dataset --data={self.config.data.name} '
        '--tokenizer=DIR --out=CACHE) and give --config.data.tokens=CACHE, '
        'or try the run with --config.weights=rule'
      )
    cache = TokenCache(folder)
    cache.check_tokenizer(self.family.tokenizer, self.params('tokenizer'))
    return cache

  @functools.cached_property
  def source(self) -> ImageSource:
    """Images on disk, of data that is streamed."""
    data = self.config.data
    return images.open_source(
      data.name,
      split=data.split or None,
      data_dir=data.dir or None,
      channels=self.family.image_shape[2],
    )

  def check_inputs(self) -> None:
    """Finds what is missing before anything is trained or written.

    Raises:
      UserError: for weights or data that are not there, or do not fit.
    """
    made_up = self.config.get('weights') == 'rule'
    if not made_up:
      for stage in sorted(self._needed):
        self.params(stage)
    if not self.streams:
      if self.left:
        _ = self.images
      return
    if 'tokenizer' in {self.config[name].kind for name in self.left}:
      _ = self.source
    if any(map(self._reads_tokens, self.left)) and not made_up:
      _ = self.token_cache

  @property
  def left(self) -> tuple[str, ...]:
    """Stages still to be trained, in order."""
    return tuple(x for x in self.config.stages if not self.done(x))

  @property
  def _needed(self) -> set[str]:
    """Stages that stages to be trained read from elsewhere."""
    kinds = {name: self.config[name].kind for name in self.left}
    needed = {'tokenizer'} if any(map(self._reads_tokens, self.left)) else set()
    for name, kind in kinds.items():
      if kind == 'distill':
        needed |= {'teacher', self.config[name].start}
    return needed - set(self.config.stages)

  def _reads_tokens(self, stage: str) -> bool:
    config = self.config[stage]
    return config.kind == 'teacher' or (
      config.kind == 'distill' and config.gan.weight > 0
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
      UserError: if the stage is not finished, or a file is missing, corrupt
        or of another model.
    """
    if stage in self.config.stages:
      return checkpoint.load_params(self.folder(stage) / _PARAMS)[role]
    # Only the student of a distillation is published: its auxiliary starts
    # from the teacher again, as in Alg. 1.
    stage = 'teacher' if role == 'auxiliary' else stage
    config = self.config
    return pretrained.load(
      self.family, stage, config.weights, config.pretrained[stage]
    )

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


def _arrays(
  run: Run, name: str, arrays: Mapping[str, np.ndarray]
) -> grain.DatasetIterator:
  size = run.config[name].batch_size
  return batches.shuffled_batches(arrays, size, run.seed(name))


def _images(run: Run, name: str) -> grain.DatasetIterator:
  """Batches of `image` and `label`."""
  if not run.streams:
    split = run.images[0]
    return _arrays(run, name, {'image': split.images, 'label': split.labels})
  return images.image_batches(
    run.source,
    run.config[name].batch_size,
    run.seed(name),
    run.family.image_shape[0],
    run.config.data.augment,
  )


def _tokens(run: Run, name: str) -> grain.DatasetIterator:
  """Batches of `tokens` and `label`."""
  if not run.streams:
    labels = run.images[0].labels
    return _arrays(run, name, {'tokens': run.tokens, 'label': labels})
  if run.config.weights == 'rule':
    return _arrays(run, name, _made_up_tokens(run.family))
  return run.token_cache.batches(run.config[name].batch_size, run.seed(name))


def _made_up_tokens(family: families.Family) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  shape = (_MADE_UP, *family.token_shape)
  return {
    'tokens': rng.integers(family.vocab_size, size=shape, dtype=np.int32),
    'label': rng.integers(family.null_label, size=_MADE_UP, dtype=np.int32),
  }


def _classifier_stage(run: Run, name: str) -> loop.Stage:
  config, example = run.config[name], run.images[0].images[:1]
  trainer = classifier.trainer(run.classifier, config)
  init_key, step_key = _keys(run, name)
  return loop.Stage(
    name=name,
    steps=config.steps,
    step=trainer.step,
    init=lambda key: trainer.init(run.classifier.init(key, example)['params']),
    start=lambda: init_key,
    frozen=lambda: None,
    iterator=_images(run, name),
    key=step_key,
    headline=('cross_entropy', 'accuracy'),
  )


def _tokenizer_stage(run: Run, name: str) -> loop.Stage:
  config = run.config[name]
  trainer = tokenizer.trainer(run.family.tokenizer, config)
  init_key, step_key = _keys(run, name)
  return loop.Stage(
    name=name,
    steps=config.steps,
    step=trainer.step,
    init=lambda key: trainer.init(run.family.init_tokenizer(key)),
    start=lambda: init_key,
    frozen=lambda: None,
    iterator=_images(run, name),
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
    start=lambda: init_key,
    frozen=lambda: None,
    iterator=_tokens(run, name),
    key=step_key,
    headline=('cross_entropy', 'masked_accuracy'),
  )


def _distill_stage(run: Run, name: str) -> loop.Stage:
  config, start = run.config[name], run.config[name].start
  distiller = distill.Distiller.create(run.family, config)
  init_key, step_key = _keys(run, name)
  role = 'auxiliary' if run.config[start].kind == 'distill' else 'model'
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
    start=lambda: (init_key, run.params(start), run.params(start, role)),
    frozen=lambda: run.params('teacher'),
    iterator=_tokens(run, name) if config.gan.weight > 0 else None,
    key=step_key,
    headline=headline,
  )


_STAGES = {
  'classifier': _classifier_stage,
  'tokenizer': _tokenizer_stage,
  'teacher': _teacher_stage,
  'distill': _distill_stage,
}
