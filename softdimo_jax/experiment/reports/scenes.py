"""Rows, table and report of a finished run on prompts about scenes."""

import dataclasses
import functools
import json
import math
import time
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from softdimo_jax.data import shapes
from softdimo_jax.data.prompts.files import Record
from softdimo_jax.evaluation.benchmarks.scenes_judge import ShapesJudge
from softdimo_jax.evaluation.report.page import Grid, Report, write_report
from softdimo_jax.experiment.reports.rows import (
  Row,
  contenders,
  curves,
  sharpness,
  test_time_optimizer,
)
from softdimo_jax.experiment.run import Run
from softdimo_jax.generation.tokens import decode_tokens, encode_images
from softdimo_jax.networks.generators.condition import TextCondition
from softdimo_jax.rewards import scoring
from softdimo_jax.runtime.files import write_atomically
from softdimo_jax.runtime.preemption import PreemptionNotice

# Pictures of the report: so many of each category.
_SHOWN = 8
_SEED = 0


@dataclasses.dataclass(frozen=True)
class _Prompts:
  """P prompts in every form that somebody reads."""

  records: Sequence[Record]
  prompt_ids: np.ndarray
  text: TextCondition

  def head(self, count: int) -> '_Prompts':
    """The first ones."""
    first = lambda array: array[:count]
    return _Prompts(
      self.records[:count],
      self.prompt_ids[:count],
      jax.tree.map(first, self.text),
    )


@dataclasses.dataclass(frozen=True)
class _Entry:
  """One way to make an image of every prompt, and the images it made."""

  row: Row
  images: np.ndarray

  @property
  def title(self) -> str:
    """For captions of pictures."""
    steps, scale = self.row['steps'], self.row['guidance_scale']
    plural = 's' if steps > 1 else ''
    guidance = f', guidance {scale:g}' if scale else ''
    return f'{self.row["model"]}, {steps} step{plural}{guidance}'


def evaluate(run: Run, notice: PreemptionNotice) -> list[Row]:
  """Scores every model and writes results.json and report.html.

  Args:
    run: all its stages are done.
    notice: checked between rows.

  Returns:
    The rows.
  """
  prompts = _prompts(run)
  judge, score = ShapesJudge(world=run.world), _scorer(run, prompts)
  rows, grids = [], []
  for entry in _entries(run, prompts):
    notice.check()
    found = judge.score(entry.images, prompts.records)
    row = entry.row | found | score(entry.images)
    rows.append(row)
    grids.append(_grid(entry, row, prompts.records))
  results = {'config': run.config.to_dict(), 'rows': rows}
  write_atomically(
    run.workdir / 'results.json', json.dumps(results, indent=2) + '\n'
  )
  write_report(run.workdir / 'report.html', _report(run, results, grids))
  return rows


def _prompts(run: Run) -> _Prompts:
  records = shapes.evaluation_prompts(run.config.evaluation.per_category)
  prompt_ids = shapes.tokenize_all([record['prompt'] for record in records])
  return _Prompts(records, prompt_ids, run.text_features(prompt_ids))


def _scorer(run: Run, prompts: _Prompts):
  """Images -> mean score of every reward, those held out among them."""
  rewards = run.trained_rewards
  params = run.reward_params(rewards)
  score = jax.jit(functools.partial(scoring.scores, rewards))

  def means(images: np.ndarray) -> Row:
    scores = score(params, images, prompts.prompt_ids)
    return {name: float(value.mean()) for name, value in scores.items()}

  return means


def _entries(run: Run, prompts: _Prompts) -> Iterator[_Entry]:
  yield from _references(run, prompts)
  tokenizer = run.params('tokenizer')
  for contender in contenders(run):
    params = run.params(contender.stage)
    seconds, images = math.inf, None
    for _ in range(2):  # The first pass compiles.
      start = time.monotonic()
      _, images = contender.sampler(
        params, tokenizer, jax.random.key(_SEED), prompts.text
      )
      seconds = min(seconds, time.monotonic() - start)
    row = _row(contender.model, contender.steps, contender.guidance_scale)
    row['images_per_second'] = len(images) / seconds
    yield _Entry(row | sharpness(run, contender.stage), images)
  yield from _optimized(run, prompts)


def _row(model: str, steps: int, guidance_scale: float | None = None) -> Row:
  return {'model': model, 'steps': steps, 'guidance_scale': guidance_scale}


def _references(run: Run, prompts: _Prompts) -> Iterator[_Entry]:
  """What the judge and the rewards say of right and of wrong scenes."""
  rng = np.random.default_rng(_SEED)
  scenes = [
    shapes.realise(run.world, rng, shapes.parse(record['prompt']))
    for record in prompts.records
  ]
  real = shapes.render(run.world, scenes)
  wrong = [shapes.perturb(run.world, scene, rng)[0] for scene in scenes]
  yield _Entry(_row('real scenes', 1), real)
  yield _Entry(_row('wrong scenes', 1), shapes.render(run.world, wrong))
  params = run.params('tokenizer')
  tokens = encode_images(run.family, params, real)
  decode = jax.jit(functools.partial(decode_tokens, run.family))
  images = decode(params, tokens, prompts.text)
  yield _Entry(_row('tokenizer', 1), np.asarray(images))


def _optimized(run: Run, prompts: _Prompts) -> Iterator[_Entry]:
  """Students with test-time optimisation, and best-of-N at equal compute.

  A step costs a forward and a backward pass, about three forward ones.
  """
  config = run.config.evaluation.tteo
  equal = config.starts * (1 + 3 * config.steps)
  for stage in config.stages:
    for name, starts, steps in (
      (f'{stage}_tteo', config.starts, config.steps),
      (f'{stage}_best_of_{equal}', equal, 0),
    ):
      optimizer = test_time_optimizer(run, stage, starts=starts, steps=steps)
      arguments = (
        run.params(stage),
        run.params('tokenizer'),
        run.reward_params(optimizer.terms),
        jax.random.key(_SEED),
      )
      few = prompts.head(math.ceil(optimizer.batch_size / starts))
      optimizer(*arguments, few.text, few.prompt_ids)  # Compiles.
      start = time.monotonic()
      best = optimizer(*arguments, prompts.text, prompts.prompt_ids)
      speed = len(best.images) / (time.monotonic() - start)
      yield _Entry(_row(name, 1) | {'images_per_second': speed}, best.images)


def _grid(entry: _Entry, row: Row, records: Sequence[Record]) -> Grid:
  each = len(records) // len(shapes.CATEGORIES)
  chosen = np.arange(len(records)) % each < _SHOWN
  return Grid(
    title=entry.title,
    caption=f'exact {row["exact"]:.3f}, GenEval rule {row["overall"]:.3f}',
    images=entry.images[chosen],
    columns=_SHOWN,
  )


def _report(run: Run, results: Row, grids: list[Grid]) -> Report:
  each = run.config.evaluation.per_category
  first = shapes.evaluation_prompts(each)[:: max(each, 1)]
  examples = '; '.join(f'"{record["prompt"]}"' for record in first)
  return Report(
    title=f'{run.config.name}: one-step generation from text',
    summary=(
      'A masked teacher, its one-step Di[M]O student, what rewards through '
      'the decoder make of it, and test-time optimisation. Rows of every grid '
      'are the six categories of prompts; their first ones: '
      f'{examples}. The prompts are the same for every grid.',
    ),
    rows=results['rows'],
    grids=grids,
    curves=curves(run),
    config=json.dumps(results['config'], indent=2),
    notes=(
      'overall is the mean of the six accuracies by the rules of GenEval, '
      'which tolerate what nobody asked for; exact does not, and is the '
      'number to rank by. Standard errors are those of the prompts.',
      'Rewards whose names end in held_out were never optimised.',
      'A best_of_N row takes the start with the highest composite score, N '
      'being what the optimisation costs in forward passes.',
    ),
  )
