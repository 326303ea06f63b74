"""Rows, table and report of a finished run, by the form of its data."""

from softdimo_jax.errors import UserError
from softdimo_jax.experiment.inputs import LabelsInMemory, Scenes
from softdimo_jax.experiment.reports import classes, scenes
from softdimo_jax.experiment.reports.rows import Row
from softdimo_jax.experiment.run import Run
from softdimo_jax.runtime.preemption import PreemptionNotice


def evaluate(run: Run, notice: PreemptionNotice) -> list[Row]:
  """Scores every model and writes results.json and report.html.

  Args:
    run: all its stages are done.
    notice: checked between rows.

  Returns:
    The rows.

  Raises:
    UserError: for data that no report knows.
  """
  data = run.inputs
  if isinstance(data, Scenes):
    return scenes.evaluate(run, data, notice)
  if isinstance(data, LabelsInMemory):
    return classes.evaluate(run, data, notice)
  raise UserError(
    'config.evaluation: only scenes and data in memory are evaluated after '
    'training; use python -m softdimo_jax.evaluate'
  )
