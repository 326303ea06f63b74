"""Points of a stage's curve, and the best of them.

A stage that can be evaluated is measured at its start, at fixed intervals and
at its end. The best state after the start, so far, is stored beside the
checkpoints:

  STAGE/best/best.json  step, metric and value, with their checksum
  STAGE/best/STEP       the averaged parameters of that step

A resumed stage repeats the points after its checkpoint and finds the same best.
"""

import dataclasses
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

from softdimo_jax.errors import UserError
from softdimo_jax.runtime import checkpoint, checksums, json_records
from softdimo_jax.runtime.curves import MetricWriter, SilentWriter
from softdimo_jax.training.state import TrainState
from softdimo_jax.types import Params

Evaluate = Callable[[TrainState], dict[str, float]]

# Metrics of which the lowest value is the best; of others it is the highest.
_LOWER = ('fid',)
FOLDER = 'best'
_RECORD = 'best.json'


@dataclasses.dataclass
class Points:
  """Measures the state of a stage; does nothing without `evaluate`.

  Attributes:
    evaluate: state -> metrics; must not change the state. None: no points.
    every: steps between points; 0 means no points.
    last: number of steps of the stage.
    keep_best: metric by which the best state is stored; empty stores none.
    folder: of the stage; absolute.
    newest: the last point, by the names in the curves.
  """

  evaluate: Evaluate | None
  every: int
  last: int
  keep_best: str
  folder: pathlib.Path
  newest: dict[str, float] = dataclasses.field(default_factory=dict)

  def take(
    self, step: int, state: TrainState, writer: MetricWriter | SilentWriter
  ) -> None:
    """Measures, writes and offers the state as the best, if it is due."""
    if self.evaluate is None or not self.every:
      return
    if step % self.every and step != self.last:
      return
    values = self.evaluate(state)
    self.newest = {f'evaluation/{k}': v for k, v in values.items()}
    writer.write_scalars(step, self.newest)
    # The start is no product of the stage: a control whose curve falls would be
    # the student that it started from.
    if self.keep_best and step:
      self._offer(step, values[self.keep_best], state.model.ema)

  def _offer(self, step: int, value: float, params: Params) -> None:
    """Stores the parameters if none are stored or the value is better."""
    best = best_record(self.folder)
    sign = -1 if self.keep_best in _LOWER else 1
    if best is not None and sign * value <= sign * best['value']:
      return
    kept = self.folder / FOLDER / str(step)
    # A run that was killed before it wrote the record may have left it.
    shutil.rmtree(kept, ignore_errors=True)
    checkpoint.save_params(kept, params)
    record = {'step': step, 'metric': self.keep_best, 'value': value}
    json_records.write(kept.parent / _RECORD, record)
    for path in kept.parent.iterdir():
      if path.is_dir() and path != kept:
        shutil.rmtree(path)


def best_record(folder: pathlib.Path) -> dict[str, Any] | None:
  """`step`, `metric` and `value` of the best state; None if none is stored.

  Args:
    folder: of the stage.

  Raises:
    UserError: if the record is damaged.
  """
  path = folder / FOLDER / _RECORD
  if not path.exists():
    return None
  try:
    record = json_records.read(path)
    return {name: record[name] for name in ('step', 'metric', 'value')}
  except (ValueError, KeyError) as error:
    raise UserError(
      f'{path} is damaged; restore it from a copy, or delete {folder} and run '
      'again to train the stage anew'
    ) from error


def damage(folder: pathlib.Path) -> str:
  """What is damaged in the best state, in words; '' if nothing is known to be.

  Args:
    folder: of the stage.
  """
  try:
    record = best_record(folder)
  except UserError:
    return f'{_RECORD} does not match its checksum'
  if record is None:
    return ''
  kept = folder / FOLDER / str(record['step'])
  return checksums.damage(kept) if kept.exists() else f'{kept.name} is missing'


def best_params(folder: pathlib.Path, step: int) -> Params:
  """Averaged parameters of the best state, on the host.

  Args:
    folder: of the stage; absolute.
    step: of the record.

  Raises:
    UserError: if they cannot be read.
  """
  return checkpoint.load_params(folder / FOLDER / str(step))
