"""Common part of all reports: rows, curves, files and the table."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from softdimo_jax.evaluation.report import table
from softdimo_jax.evaluation.report.columns import COLUMNS, Column
from softdimo_jax.evaluation.report.page import (
  Curve,
  Grid,
  Report,
  write_report,
)
from softdimo_jax.experiment.methods import Method
from softdimo_jax.experiment.run import Run
from softdimo_jax.runtime.curves import read_metrics
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
  results = {'config': run.config.to_dict()} | results
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


def sharpness(run: Run, stage: str) -> Row:
  """Concentration of a student's distribution at the end of its training."""
  if run.config[stage].kind != 'distill':
    return {}
  last = read_metrics(run.folder(stage) / 'metrics.jsonl')[-1]
  return {
    'max_probability': last['student/max_probability'],
    'delta_share': last['student/delta_share'],
  }


def curves(run: Run) -> list[Curve]:
  """Training curves, with one series per stage that logs the metric."""
  curves = []
  for metric, title in _CURVES.items():
    series = {}
    for stage in run.config.stages:
      rows = read_metrics(run.folder(stage) / 'metrics.jsonl')
      points = [(r['step'], r[metric]) for r in rows if metric in r]
      if points:
        series[stage] = tuple(zip(*points, strict=True))
    if series:
      curves.append(
        Curve(title=title, x_label='step', y_label='', series=series)
      )
  return curves


def summary(rows: list[Row]) -> str:
  """The rows as a table for the terminal."""
  brief = lambda name: COLUMNS.get(name, Column()).brief
  shown = [{k: v for k, v in row.items() if brief(k)} for row in rows]
  return table.format_table(shown)
