"""Rows, table and report of a finished run on class labels."""

import collections
import functools
import json
import math
import time
from typing import Any

import jax
import numpy as np

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.benchmarks.labels_judge import Judge
from softdimo_jax.evaluation.report.page import Grid, Report, write_report
from softdimo_jax.experiment.reports.rows import (
  Contender,
  Row,
  contenders,
  curves,
  sharpness,
)
from softdimo_jax.experiment.run import Run
from softdimo_jax.generation.tokens import decode_tokens
from softdimo_jax.runtime.batched import Batched
from softdimo_jax.runtime.files import write_atomically
from softdimo_jax.runtime.preemption import PreemptionNotice

_PICTURES = 80
# Tokens per call: the activations of a whole training set do not fit.
_DECODED = 2048


def evaluate(run: Run, notice: PreemptionNotice) -> list[Row]:
  """Scores every model and writes results.json and report.html.

  Args:
    run: all its stages are done.
    notice: checked between rows.

  Returns:
    The rows.
  """
  judge = _judge(run)
  rows, grids = [_reconstruction(run, judge)], [_real_grid(run)]
  for contender in contenders(run):
    notice.check()
    row, images = _score(run, judge, contender)
    rows.append(row)
    grids.append(
      Grid(
        title=contender.title,
        caption=f'FID {row["fid"]:.2f}, accuracy {row["accuracy"]:.3f}',
        images=images[:_PICTURES],
        columns=10,
      )
    )
  results = {
    'config': run.config.to_dict(),
    'floor': _floors(run, judge),
    'rows': rows,
  }
  write_atomically(
    run.workdir / 'results.json', json.dumps(results, indent=2) + '\n'
  )
  write_report(run.workdir / 'report.html', _report(run, results, grids))
  return rows


def _judge(run: Run) -> Judge:
  return Judge(
    classifier=run.classifier,
    feature_params=run.params('features'),
    label_params=run.params('judge'),
    images=run.images[0].images,
    tokens=run.tokens,
  )


def _labels(run: Run) -> np.ndarray:
  """As many of each label: 0, 1, ..., 9, 0, 1, ..."""
  count, classes = run.config.evaluation.num_images, run.family.null_label
  return np.resize(np.arange(classes, dtype=np.int32), count)


def _score(
  run: Run, judge: Judge, contender: Contender
) -> tuple[Row, np.ndarray]:
  """Mean and spread over the evaluation seeds; images of the first."""
  params, labels = run.params(contender.stage), _labels(run)
  tokenizer_params = run.params('tokenizer')
  scores, pictures, seconds = collections.defaultdict(list), None, math.inf
  for seed in range(run.config.evaluation.seeds):
    start = time.monotonic()
    tokens, images = contender.sampler(
      params, tokenizer_params, jax.random.key(seed), labels
    )
    # The first pass compiles; the fastest is the speed.
    seconds = min(seconds, time.monotonic() - start)
    pictures = images if pictures is None else pictures
    try:
      score = judge.score(images, labels, tokens)
    except ValueError as error:
      raise UserError(
        f'images of {contender.title} cannot be scored: {error}'
      ) from error
    for name, value in score.items():
      scores[name].append(value)
  row = {
    'model': contender.model,
    'steps': contender.steps,
    'guidance_scale': contender.guidance_scale,
    **{name: float(np.mean(values)) for name, values in scores.items()},
    'num_images': len(labels),
    'fid_std': float(np.std(scores['fid'])),
    'images_per_second': len(labels) / seconds,
  }
  return row | sharpness(run, contender.stage), pictures


def _reconstruction(run: Run, judge: Judge) -> Row:
  split = run.images[0]
  decode = Batched(functools.partial(decode_tokens, run.family))
  params = decode.place(run.params('tokenizer'))
  size = min(_DECODED, len(run.tokens))
  images = decode(params, run.tokens, size)
  start = time.monotonic()
  decode(params, run.tokens, size)
  seconds = time.monotonic() - start
  score = judge.score(images, split.labels, run.tokens)
  return {
    'model': 'tokenizer',
    'steps': 1,
    'guidance_scale': None,
    **score,
    'copy_rate': None,
    'images_per_second': len(images) / seconds,
  }


def _floors(run: Run, judge: Judge) -> dict[str, float]:
  count = run.config.evaluation.num_images
  return {
    'bootstrap_fid': float(np.mean([judge.floor(s, count) for s in range(5)])),
    'held_out_fid': judge.real_distance(run.images[1].images),
    'held_out_images': len(run.images[1].images),
    'held_out_accuracy': judge.accuracy(
      run.images[1].images, run.images[1].labels
    ),
  }


def _real_grid(run: Run) -> Grid:
  split = run.images[0]
  order = np.argsort(split.labels, kind='stable')
  columns = [order[split.labels[order] == k][:8] for k in range(10)]
  chosen = np.stack(columns, axis=1).ravel()
  return Grid(
    title='real images',
    caption='training images, one column a class',
    images=split.images[chosen],
    columns=10,
  )


def _report(run: Run, results: dict[str, Any], grids: list[Grid]) -> Report:
  floor = results['floor']
  return Report(
    title=f'{run.config.name}: one-step generation of handwritten digits',
    summary=(
      'A masked teacher, its one-step Di[M]O student and what the soft-'
      'embedding stage makes of it. Columns of every grid are the labels '
      '0 to 9; all samples come from the first evaluation seed, unselected.',
    ),
    rows=results['rows'],
    grids=grids,
    curves=curves(run),
    config=json.dumps(results['config'], indent=2),
    notes=(
      'FID is the Frechet distance times 100 in the 64 features of a '
      'classifier trained on the same training images, against all '
      f'{len(run.images[0].labels)} of them; it is not an Inception FID.',
      f'Means over {run.config.evaluation.seeds} evaluation seeds of one '
      'trained model; the spread is theirs and says nothing about training.',
      f'Floors: {floor["bootstrap_fid"]:.2f} for as many training images '
      f'drawn with replacement, {floor["held_out_fid"]:.2f} for the '
      f'{floor["held_out_images"]} held-out images (fewer score higher).',
      'Copies are token strings equal to a training image; density and '
      'coverage are in results.json.',
    ),
  )
