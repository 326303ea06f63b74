"""Common part of all reports: rows, curves, files and the table."""

import collections
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from absl import logging

from softdimo_jax.evaluation.report import paper, table
from softdimo_jax.evaluation.report.columns import COLUMNS, Column
from softdimo_jax.evaluation.report.comparison import compare
from softdimo_jax.evaluation.report.page import (
  Curve,
  Grid,
  Report,
  write_report,
)
from softdimo_jax.experiment import replaced
from softdimo_jax.experiment.methods import Method
from softdimo_jax.experiment.run import Run
from softdimo_jax.runtime.curves import METRICS_FILE, read_metrics
from softdimo_jax.runtime.files import write_atomically

T = TypeVar('T')
Row = dict[str, Any]

_CURVES = {
  'student/max_probability': 'Mean max-probability of the student',
  'student/entropy': 'Token entropy of the student (nats)',
  'dimo/discrepancy': 'Mean |p_psi - p_phi| on masked tokens',
  'auxiliary/cross_entropy': 'Cross entropy of the auxiliary (nats)',
  'gan/discriminator_accuracy': 'Accuracy of the discriminator',
  'gan/gradient_ratio': 'Norm of GAN over Di[M]O logit gradient',
  'reward/total': 'Weighted reward of the soft images',
  'reward/gradient_ratio': 'Norm of reward over Di[M]O logit gradient',
  'evaluation/reward': 'Weighted reward of the decoded tokens',
  'evaluation/precision': 'Precision of the samples',
  'evaluation/recall': 'Recall of the samples',
  'evaluation/occupied': 'Objects per image',
}
# Curves with one plot per start, and the paper's beside those of post-training.
_BY_START: dict[str, tuple[str, Curve | None]] = {
  'evaluation/fid': ('FID', paper.FID),
  'evaluation/overall': ('GenEval rule, overall,', paper.GENEVAL),
  'evaluation/exact': ('Exact images', None),
}


def row_of(method: Method) -> Row:
  """Columns that identify a method."""
  return {
    'model': method.name,
    'steps': method.steps,
    'guidance_scale': method.guidance_scale,
  }


def timed(call: Callable[[], T]) -> tuple[T, float]:
  """(result of the call, wall time in seconds)."""
  start = time.monotonic()
  return call(), time.monotonic() - start


def write(
  run: Run, results: Row, grids: Sequence[Grid], **texts: Any
) -> list[Row]:
  """Writes results.json and report.html, and returns the rows.

  Args:
    run: workdir and configuration.
    results: JSON values, including `rows`.
    grids: image grids of the report.
    **texts: `title`, `summary` and `notes` of the report.
  """
  protocol = {'pretrained': replaced.identities(run.config)}
  results = {'config': run.config.to_dict(), 'protocol': protocol} | results
  write_atomically(
    run.workdir / 'results.json', json.dumps(results, indent=2) + '\n'
  )
  report = Report(
    rows=results['rows'],
    grids=grids,
    curves=curves(run),
    config=json.dumps(results['config'], indent=2),
    **texts,
  )
  write_report(run.workdir / 'report.html', report)
  return results['rows']


def of_training(run: Run, stage: str) -> Row:
  """Columns of a student's training; empty for a teacher.

  The concentration of its distribution at the end or, with the step, at the
  best state. It is left out if the curves are damaged.
  """
  if run.config[stage].kind != 'distill':
    return {}
  rows = _with(_metrics(run, stage), 'student/max_probability')
  best = run.best_step(stage)
  kept = {} if best is None else {'best_step': best}
  if not rows or rows[-1]['step'] != run.config[stage].steps:
    logging.warning(
      '%s is damaged and does not reach the end of its stage: its curves are '
      'cut short, and the report lacks max_probability and delta_share',
      run.folder(stage) / METRICS_FILE,
    )
    return kept
  if best is not None:
    rows = [row for row in rows if row['step'] <= best] or rows[:1]
  return kept | {
    'max_probability': rows[-1]['student/max_probability'],
    'delta_share': rows[-1]['student/delta_share'],
  }


def curves(run: Run) -> list[Curve]:
  """Curves of evaluation and training, with one series per stage."""
  return [*_evaluations(run), *_training(run)]


def _evaluations(run: Run) -> Iterator[Curve]:
  """Yields the students of one start together, after the paper's curves."""
  config, groups = run.config, collections.defaultdict(list)
  for stage in config.stages:
    if config[stage].kind == 'distill':
      groups[config[stage].start].append(stage)
  for metric, (title, published) in _BY_START.items():
    for start, stages in groups.items():
      series = _series(run, stages, metric)
      if series and published and config[start].kind == 'distill':
        yield published
      if series:
        yield _curve(f'{title} from {start}', series)


def _training(run: Run) -> Iterator[Curve]:
  for metric, title in _CURVES.items():
    series = _series(run, run.config.stages, metric)
    if series:
      yield _curve(title, series)


def _curve(title: str, series: dict[str, Any]) -> Curve:
  return Curve(title=title, x_label='step', y_label='', series=series)


def _series(run: Run, stages: Iterable[str], metric: str) -> dict[str, Any]:
  """(steps, values) of every stage that has the metric."""
  rows = {stage: _with(_metrics(run, stage), metric) for stage in stages}
  return {
    stage: ([row['step'] for row in found], [row[metric] for row in found])
    for stage, found in rows.items()
    if found
  }


def _metrics(run: Run, stage: str) -> list[Row]:
  return read_metrics(run.folder(stage) / METRICS_FILE)


def _with(rows: list[Row], metric: str) -> list[Row]:
  return [row for row in rows if metric in row]


def summary(rows: list[Row]) -> str:
  """The comparison with the paper and the rows, for the terminal."""
  brief = lambda name: COLUMNS.get(name, Column()).brief
  shown = [{k: v for k, v in row.items() if brief(k)} for row in rows]
  tables = [found for found in (compare([rows]), shown) if found]
  return '\n\n'.join(map(table.format_table, tables))
