"""Training curves: JSON lines and TensorBoard events.

Method names follow clu.metric_writers, which cannot be imported without
TensorFlow.
"""

import json
import pathlib
from collections.abc import Mapping

import tensorboardX

from softdimo_jax.runtime.files import write_atomically


class MetricWriter:
  """Scalars of one stage as JSON lines and TensorBoard events."""

  def __init__(self, folder: pathlib.Path, first_step: int):
    """Opens the files and drops lines of steps after `first_step`.

    A run that was killed after its last checkpoint wrote such lines; the
    resumed run writes them again. A run without a checkpoint starts anew
    (`first_step` is 0) and writes all of them again, also those of step 0.
    """
    path = folder / 'metrics.jsonl'
    rows = read_metrics(path) if first_step else []
    rows = [row for row in rows if row['step'] <= first_step]
    write_atomically(path, ''.join(json.dumps(row) + '\n' for row in rows))
    self._lines = path.open('a', encoding='utf-8')
    self._events = tensorboardX.SummaryWriter(
      str(folder / 'tensorboard'),
      purge_step=first_step + 1 if first_step else 0,
    )

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes one point of several curves."""
    self._lines.write(json.dumps({'step': step, **scalars}) + '\n')
    for name, value in scalars.items():
      self._events.add_scalar(name, value, step)

  def flush(self) -> None:
    """Makes the points visible to other programs."""
    self._lines.flush()
    self._events.flush()

  def close(self) -> None:
    """Flushes and closes the files."""
    self._lines.close()
    self._events.close()


class SilentWriter:
  """Replaces MetricWriter in processes that do not write."""

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes nothing."""

  def flush(self) -> None:
    """Does nothing."""

  def close(self) -> None:
    """Does nothing."""


def read_metrics(path: pathlib.Path) -> list[dict[str, float]]:
  """Rows of a metrics.jsonl, up to a line that a kill cut short."""
  if not path.exists():
    return []
  rows = []
  for line in path.read_text('utf-8').splitlines():
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError:
      break
  return rows
