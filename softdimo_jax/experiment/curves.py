"""Curves of a distillation: its student is measured while it is trained.

The moving average samples images in one step, as in the report, and the judge
of the report measures them.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from softdimo_jax.data import shapes
from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.benchmarks.scenes_judge import ShapesJudge
from softdimo_jax.experiment import methods
from softdimo_jax.experiment.checks import choice
from softdimo_jax.experiment.inputs import Inputs, LabelsInMemory, Scenes
from softdimo_jax.experiment.run import Run
from softdimo_jax.method import sampling
from softdimo_jax.networks.generators.condition import Condition, batch_size
from softdimo_jax.rewards import scoring
from softdimo_jax.runtime.batched import Batched
from softdimo_jax.training.distill.reward_term import used_terms
from softdimo_jax.training.points import Evaluate
from softdimo_jax.training.state import TrainState
from softdimo_jax.types import Params

# Images [N, H, W, C] -> metrics.
Measure = Callable[[np.ndarray], dict[str, float]]

# Of noise and prompts. The report draws its noise with the seeds 0, 1, ... and
# its prompts with another one: `loop.keep_best` must not select on the set that
# is reported. Prompts of categories that have few occur in both.
_SEED = 1_000_000
_CLASSES = ('fid', 'precision', 'recall')
_SCENES = ('exact', 'overall', 'occupied')
# A set has all six categories of prompts, and more images than the neighbours
# that precision and recall compare.
_FEWEST = 6


def every(config: ml_collections.ConfigDict) -> int:
  """Steps between the points of a run's curves; 0 for none."""
  return config.get('evaluation', {}).get('every', 0)


def evaluation(run: Run, stage: str) -> Evaluate | None:
  """Measures the states of a distillation; None for a run without points.

  A run without the stages that measure has none.
  """
  if not every(run.config) or run.lacks(run.inputs.judges):
    return None
  return _Curve(run, stage)


def validate(config: ml_collections.ConfigDict, data: Inputs) -> None:
  """Checks `evaluation.every` and the fields that go with it.

  Raises:
    ValueError: naming the field and its allowed values.
  """
  steps, keep_best = every(config), config.loop.get('keep_best', '')
  if not steps:
    if keep_best:
      raise ValueError(
        f'loop.keep_best={keep_best!r} needs points to choose from; set '
        'evaluation.every'
      )
    return
  if not isinstance(data, Scenes | LabelsInMemory):
    raise ValueError(
      'evaluation.every needs scenes or data in memory; set it to 0'
    )
  if jax.process_count() > 1:
    raise ValueError('evaluation.every needs a run of one process; set it to 0')
  if config.evaluation.curve_images < _FEWEST:
    raise ValueError(
      f'evaluation.curve_images={config.evaluation.curve_images} must be at '
      f'least {_FEWEST}'
    )
  known = (*config.stages, *config.get('pretrained', {}))
  for stage in config.stages:
    if keep_best and config[stage].kind == 'distill':
      for judge in set(data.judges) - set(known):
        raise ValueError(
          f'loop.keep_best={keep_best!r} measures with the stage {judge}; add '
          'it to config.stages, or set loop.keep_best to an empty string'
        )
      choice('loop.keep_best', keep_best, _ranked(config, data, stage))


def _ranked(
  config: ml_collections.ConfigDict, data: Inputs, stage: str
) -> tuple[str, ...]:
  """Metrics of a stage's curve that say which state is better."""
  if not isinstance(data, Scenes):
    return _CLASSES
  return ('exact', 'overall', 'reward')[
    : 3 if _terms(config, data, stage) else 2
  ]


@dataclasses.dataclass(frozen=True)
class _Curve:
  """State -> metrics of its student. Loads and compiles at the first call."""

  run: Run
  stage: str

  def __call__(self, state: TrainState) -> dict[str, float]:
    condition, measure = self._set
    teacher, tokenizer = self._frozen
    keys = sampling.image_keys(_SEED, batch_size(condition))
    student = self.run.family.merge(state.model.ema, teacher)
    _, images = self._method.generate(student, tokenizer, keys, condition, None)
    try:
      return measure(images)
    except ValueError as error:
      raise UserError(
        f'images of stage {self.stage} at step {int(state.step)} cannot be '
        f'scored: {error}'
      ) from error

  @property
  def _count(self) -> int:
    return self.run.config.evaluation.curve_images

  @functools.cached_property
  def _method(self) -> methods.Method:
    size = min(self.run.config.evaluation.batch_size, self._count)
    return methods.sampled(self.run, self.stage, size)

  @functools.cached_property
  def _frozen(self) -> tuple[Params, Params]:
    """(teacher, tokenizer), on the devices."""
    place, params = self._method.place, self.run.params
    return place(params('teacher')), place(params('tokenizer'))

  @functools.cached_property
  def _set(self) -> tuple[Condition, Measure]:
    """(condition of the images, how they are measured)."""
    data = self.run.inputs
    if isinstance(data, Scenes):
      terms = _terms(self.run.config, data, self.stage)
      return _scenes(data, self._count, terms)
    assert isinstance(data, LabelsInMemory)
    classes = np.arange(self.run.family.null_label, dtype=np.int32)
    judge = data.judge
    measure = lambda images: _only(judge.quality(images), _CLASSES)
    return np.resize(classes, self._count), measure


def _only(values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
  return {name: values[name] for name in names}


def _scenes(
  data: Scenes, count: int, terms: dict[str, float]
) -> tuple[Condition, Measure]:
  """As `_Curve._set`, with equally many prompts of every category.

  The reward is that of decoded tokens; training maximises that of soft images.
  """
  records = data.prompts(count // len(shapes.CATEGORIES), _SEED)
  ids = shapes.tokenize_all([record['prompt'] for record in records])
  judge, rewards = ShapesJudge(world=data.world), data.rewards(terms)
  composite = Batched(
    lambda params, pairs: scoring.total(
      scoring.scores(rewards, params, *pairs), terms
    )
  )
  params = composite.place(data.reward_params(terms))

  def measure(images: np.ndarray) -> dict[str, float]:
    values = _only(judge.score(images, records), _SCENES)
    if terms:
      scores = composite(params, (images, ids), len(images))
      values['reward'] = float(scores.mean())
    return values

  return data.encode(ids), measure


def _terms(
  config: ml_collections.ConfigDict, data: Scenes, stage: str
) -> dict[str, float]:
  """Weights of the composite reward of a stage.

  Those that it is trained on, else those of test-time optimisation whose
  rewards are trained before the stage.
  """
  own = used_terms(config[stage].reward)
  earlier = config.stages[: config.stages.index(stage)]
  known = data.reward_names(earlier)
  others = config.get('tteo', {}).get('terms', {})
  return own or {n: w for n, w in others.items() if w and n in known}
