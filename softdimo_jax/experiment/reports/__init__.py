"""Rows, table and report of a finished run."""

from softdimo_jax.errors import UserError
from softdimo_jax.experiment.inputs import LabelsInMemory, Scenes
from softdimo_jax.experiment.reports import classes, scenes
from softdimo_jax.experiment.reports.results import Row
from softdimo_jax.experiment.run import Run
from softdimo_jax.runtime.preemption import PreemptionNotice


def lacking(run: Run) -> list[str]:
  """Stages that the report reads, but that the run does not have."""
  config, data = run.config, run.inputs
  read = ['tokenizer', 'teacher', *data.judges]
  if isinstance(data, Scenes):
    read += [config.data.text_stage, *config.tteo.terms]
    read += config.evaluation.tteo.stages
  return run.lacks(read)


def evaluate(run: Run, notice: PreemptionNotice) -> list[Row]:
  """Scores every model and writes results.json and report.html.

  Args:
    run: run whose stages are all done.
    notice: checked between rows.

  Returns:
    The rows.

  Raises:
    UserError: for a form of data without a report.
  """
  data = run.inputs
  if isinstance(data, Scenes):
    return scenes.evaluate(run, data, notice)
  if isinstance(data, LabelsInMemory):
    return classes.evaluate(run, data, notice)
  raise UserError(
    'config.evaluation needs scenes or data in memory; for other data use '
    'python -m softdimo_jax.evaluate'
  )
