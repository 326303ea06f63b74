"""Rows, table and report of a finished run on scenes."""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from softdimo_jax.data import shapes
from softdimo_jax.data.prompts.records import Record
from softdimo_jax.evaluation.benchmarks.scenes_judge import ShapesJudge
from softdimo_jax.evaluation.report.page import Grid
from softdimo_jax.experiment import methods
from softdimo_jax.experiment.best_of import best_of_n
from softdimo_jax.experiment.inputs import Scenes
from softdimo_jax.experiment.methods import Method
from softdimo_jax.experiment.reports import results
from softdimo_jax.experiment.reports.results import Row
from softdimo_jax.experiment.run import Run
from softdimo_jax.generation.tokens import decode_tokens, encode_images
from softdimo_jax.method import sampling
from softdimo_jax.networks.generators.condition import TextCondition
from softdimo_jax.rewards import scores
from softdimo_jax.runtime.preemption import PreemptionNotice

# Images per category in the report.
_SHOWN = 8
_SEED = 0


@dataclasses.dataclass(frozen=True)
class _Prompts:
  """P prompts as records, token ids and text features."""

  records: Sequence[Record]
  ids: np.ndarray
  text: TextCondition

  def head(self, count: int) -> '_Prompts':
    """The first `count` prompts."""
    first = lambda array: array[:count]
    return _Prompts(
      self.records[:count], self.ids[:count], jax.tree.map(first, self.text)
    )


def evaluate(run: Run, data: Scenes, notice: PreemptionNotice) -> list[Row]:
  """Scores every model and writes results.json and report.html.

  Args:
    run: run whose stages are all done.
    data: data of the run.
    notice: checked between rows.

  Returns:
    The rows.
  """
  prompts = _prompts(run, data)
  judge, score = ShapesJudge(world=data.world), _scorer(data, prompts)
  scored, grids = [], []
  for title, row, images in _entries(run, data, prompts):
    notice.check()
    row = row | judge.score(images, prompts.records) | score(images)
    scored.append(row)
    grids.append(_grid(title, images, row, prompts.records))
  texts = _texts(run, prompts.records)
  return results.write(run, {'rows': scored}, grids, **texts)


def _prompts(run: Run, data: Scenes) -> _Prompts:
  records = data.prompts(run.config.evaluation.per_category)
  ids = shapes.tokenize_all([record['prompt'] for record in records])
  return _Prompts(records, ids, data.encode(ids))


def _scorer(data: Scenes, prompts: _Prompts) -> Callable[[np.ndarray], Row]:
  """Images -> mean score per reward, including held-out rewards."""
  rewards = data.trained_rewards
  params = data.reward_params(rewards)
  compiled = jax.jit(functools.partial(scores, rewards))

  def means(images: np.ndarray) -> Row:
    values = compiled(params, images, prompts.ids)
    return {name: float(value.mean()) for name, value in values.items()}

  return means


def _entries(
  run: Run, data: Scenes, prompts: _Prompts
) -> Iterator[tuple[str, Row, np.ndarray]]:
  """Yields (title, columns that identify the row, one image per prompt)."""
  yield from _references(run, data, prompts)
  for method in methods.compared(run):
    # The first pass compiles.
    (images, first), (_, second) = (
      _generated(run, method, prompts) for _ in range(2)
    )
    row = _speed(method, images, min(first, second))
    yield method.title, row | results.of_training(run, method.stage), images
  for method, batch in _optimised(run):
    _generated(run, method, prompts.head(batch))  # Compiles.
    images, seconds = _generated(run, method, prompts)
    yield method.title, _speed(method, images, seconds), images


def _generated(
  run: Run, method: Method, prompts: _Prompts
) -> tuple[np.ndarray, float]:
  """(images, wall time in seconds)."""
  params, tokenizer = run.params(method.stage), run.params('tokenizer')
  keys = sampling.image_keys(_SEED, len(prompts.ids))
  (_, images), seconds = results.timed(
    lambda: method.generate(params, tokenizer, keys, prompts.text, prompts.ids)
  )
  return images, seconds


def _speed(method: Method, images: np.ndarray, seconds: float) -> Row:
  return results.row_of(method) | {'images_per_second': len(images) / seconds}


def _references(
  run: Run, data: Scenes, prompts: _Prompts
) -> Iterator[tuple[str, Row, np.ndarray]]:
  """Yields reference entries: right scenes, wrong scenes, reconstructions."""
  rng, world = np.random.default_rng(_SEED), data.world
  right = [
    shapes.realise(world, rng, shapes.parse(record['prompt']))
    for record in prompts.records
  ]
  wrong = [shapes.perturb(world, scene, rng)[0] for scene in right]
  real = shapes.render(world, right)
  params = run.params('tokenizer')
  tokens = encode_images(run.family, params, real)
  decode = jax.jit(functools.partial(decode_tokens, run.family))
  for name, images in (
    ('real scenes', real),
    ('wrong scenes', shapes.render(world, wrong)),
    ('tokenizer', np.asarray(decode(params, tokens, prompts.text))),
  ):
    row = {'model': name, 'steps': 1, 'guidance_scale': None}
    yield f'{name}, 1 step', row, images


def _optimised(run: Run) -> Iterator[tuple[Method, int]]:
  """Test-time optimisation of students, and best-of-N at equal compute.

  A step costs a forward and a backward pass, about three forward passes.

  Yields:
    (method, prompts per compiled call).
  """
  config = run.config.evaluation.tteo
  equal = config.starts * (1 + 3 * config.steps)
  for stage in config.stages:
    for name, starts, steps in (
      (f'{stage}_tteo', config.starts, config.steps),
      (f'{stage}_best_of_{equal}', equal, 0),
    ):
      method = best_of_n(run, stage, starts=starts, steps=steps)
      batch = math.ceil(run.config.tteo.batch_size / starts)
      yield dataclasses.replace(method, name=name), batch


def _grid(
  title: str, images: np.ndarray, row: Row, records: Sequence[Record]
) -> Grid:
  each = len(records) // len(shapes.CATEGORIES)
  chosen = np.arange(len(records)) % each < _SHOWN
  return Grid(
    title=title,
    caption=f'exact {row["exact"]:.3f}, GenEval rule {row["overall"]:.3f}',
    images=images[chosen],
    columns=_SHOWN,
  )


def _texts(run: Run, records: Sequence[Record]) -> dict[str, Any]:
  first = records[:: run.config.evaluation.per_category]
  examples = '; '.join(f'"{record["prompt"]}"' for record in first)
  return {
    'title': f'{run.config.name}: one-step generation from text',
    'summary': (
      'A masked teacher, its one-step Di[M]O student, the student after '
      'training on rewards through the decoder, and test-time optimisation. '
      'The rows of every grid are the six categories of prompts, for example '
      f'{examples}. All grids show the same prompts.',
    ),
    'notes': (
      'overall is the mean of the six accuracies by the rules of GenEval, '
      'which ignore objects that are not in the prompt; exact counts them as '
      'errors, and is the number to rank by. Standard errors are over prompts.',
      'Rewards whose names end in held_out were never optimised.',
      'A best_of_N row keeps the start with the highest composite score; N is '
      'the cost of the optimisation in forward passes.',
    ),
  }
