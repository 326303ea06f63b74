"""Rows, table and report of a finished class-conditional run."""

import collections
import functools
import math
from typing import Any

import numpy as np

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.benchmarks.labels_judge import Judge
from softdimo_jax.evaluation.report.page import Grid
from softdimo_jax.experiment import methods
from softdimo_jax.experiment.inputs import LabelsInMemory
from softdimo_jax.experiment.methods import Method
from softdimo_jax.experiment.reports import results
from softdimo_jax.experiment.reports.results import Row
from softdimo_jax.experiment.run import Run
from softdimo_jax.generation.tokens import decode_tokens
from softdimo_jax.method import sampling
from softdimo_jax.runtime.batched import Batched
from softdimo_jax.runtime.preemption import PreemptionNotice

# Rows and most columns of a grid. With at most this many classes, each column
# shows one class.
_HEIGHT, _WIDTH = 8, 16
# Images decoded per call: a whole training set would not fit into memory.
_DECODED = 2048


def evaluate(
  run: Run, data: LabelsInMemory, notice: PreemptionNotice
) -> list[Row]:
  """Scores every model and writes results.json and report.html.

  Args:
    run: run whose stages are all done.
    data: data of the run.
    notice: checked between rows.

  Returns:
    The rows.
  """
  judge = data.judge
  scored, grids = [_reconstruction(run, data, judge)], [_real_grid(run, data)]
  for method in methods.compared(run):
    notice.check()
    row, images = _score(run, judge, method)
    scored.append(row)
    caption = f'FID {row["fid"]:.2f}, accuracy {row["accuracy"]:.3f}'
    grids.append(_grid(run, method.title, caption, images))
  floor = _floors(run, data, judge)
  texts = _texts(run, data, floor)
  return results.write(run, {'floor': floor, 'rows': scored}, grids, **texts)


def _labels(run: Run) -> np.ndarray:
  """Labels int32 [N] with equal counts: 0, 1, ..., 0, 1, ..."""
  count, classes = run.config.evaluation.num_images, run.family.null_label
  return np.resize(np.arange(classes, dtype=np.int32), count)


def _score(run: Run, judge: Judge, method: Method) -> tuple[Row, np.ndarray]:
  """(mean and spread over the evaluation seeds, images of the first seed)."""
  params, labels = run.params(method.stage), _labels(run)
  tokenizer = run.params('tokenizer')
  scores, fastest = collections.defaultdict(list), math.inf
  pictures: list[np.ndarray] = []
  for seed in range(run.config.evaluation.seeds):
    keys = sampling.image_keys(seed, len(labels))
    (tokens, images), seconds = results.timed(
      lambda keys=keys: method.generate(params, tokenizer, keys, labels, None)
    )
    fastest = min(fastest, seconds)  # The first pass compiles.
    pictures = pictures or [images]
    try:
      if tokens is None:
        raise ValueError('they have no tokens')
      score = judge.score(images, labels, tokens)
    except ValueError as error:
      raise UserError(
        f'images of {method.title} cannot be scored: {error}'
      ) from error
    for name, value in score.items():
      scores[name].append(value)
  row = results.row_of(method) | {
    **{name: float(np.mean(values)) for name, values in scores.items()},
    'num_images': len(labels),
    'fid_std': float(np.std(scores['fid'])),
    'images_per_second': len(labels) / fastest,
  }
  return row | results.of_training(run, method.stage), pictures[0]


def _reconstruction(run: Run, data: LabelsInMemory, judge: Judge) -> Row:
  tokens = data.training_tokens
  decode = Batched(functools.partial(decode_tokens, run.family))
  params = decode.place(run.params('tokenizer'))
  call = lambda: decode(params, tokens, min(_DECODED, len(tokens)))
  call()  # Compiles.
  images, seconds = results.timed(call)
  return {
    'model': 'tokenizer',
    'steps': 1,
    'guidance_scale': None,
    **judge.score(images, data.splits[0].labels, tokens),
    'copy_rate': None,
    'images_per_second': len(images) / seconds,
  }


def _floors(run: Run, data: LabelsInMemory, judge: Judge) -> dict[str, float]:
  count, held_out = run.config.evaluation.num_images, data.splits[1]
  return {
    'bootstrap_fid': float(np.mean([judge.floor(s, count) for s in range(5)])),
    'held_out_fid': judge.real_distance(held_out.images),
    'held_out_images': len(held_out.images),
    'held_out_accuracy': judge.accuracy(held_out.images, held_out.labels),
  }


def _real_grid(run: Run, data: LabelsInMemory) -> Grid:
  """Training images with the same order of labels as the other grids."""
  split, classes = data.splits[0], run.family.null_label
  of_class = [np.flatnonzero(split.labels == k) for k in range(classes)]
  labels = np.resize(np.arange(classes), _HEIGHT * min(classes, _WIDTH))
  chosen = [
    of_class[label][(index // classes) % len(of_class[label])]
    for index, label in enumerate(labels)
  ]
  return _grid(run, 'real images', 'training images', split.images[chosen])


def _grid(run: Run, title: str, caption: str, images: np.ndarray) -> Grid:
  columns = min(run.family.null_label, _WIDTH)
  return Grid(
    title=title,
    caption=caption,
    images=images[: _HEIGHT * columns],
    columns=columns,
  )


def _texts(
  run: Run, data: LabelsInMemory, floor: dict[str, float]
) -> dict[str, Any]:
  classes = run.family.null_label
  order = (
    f'Columns of every grid are the labels 0 to {classes - 1}'
    if classes <= _WIDTH
    else f'Every grid shows the labels 0 to {classes - 1} in order'
  )
  width = run.config.classifier.feature_width
  return {
    'title': f'{run.config.name}: one-step generation of {classes} classes',
    'summary': (
      'A masked teacher, its one-step Di[M]O student, and the student after '
      f'soft-embedding refinement. {order}; samples are unselected and come '
      'from the first evaluation seed.',
    ),
    'notes': (
      f'FID is the Frechet distance times 100 in the {width} features of a '
      'classifier trained on the same training images, against all '
      f'{len(data.splits[0].labels)} of them; it is not an Inception FID.',
      f'Values are means over {run.config.evaluation.seeds} evaluation seeds '
      'of one trained model; the spread excludes variation between trainings.',
      f'Floors: {floor["bootstrap_fid"]:.2f} for the same number of training '
      f'images drawn with replacement, {floor["held_out_fid"]:.2f} for the '
      f'{floor["held_out_images"]} held-out images (fewer score higher).',
      'Copies are samples whose tokens equal those of a training image; '
      'density and coverage are in results.json.',
    ),
  }
