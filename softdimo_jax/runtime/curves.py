"""Training curves: JSON lines and TensorBoard events.

Method names follow clu.metric_writers, which cannot be imported without
TensorFlow.
"""

import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2

from softdimo_jax.runtime import storage
from softdimo_jax.runtime.files import write_atomically

METRICS_FILE = 'metrics.jsonl'
_FLUSH_SECONDS = 60.0
# Protocol buffers are made at run time, so that types lack them.
Event: Any = vars(event_pb2)['Event']
SessionLog: Any = vars(event_pb2)['SessionLog']
Summary: Any = vars(summary_pb2)['Summary']


class MetricWriter:
  """Scalars of one stage as JSON lines and TensorBoard events."""

  def __init__(self, folder: pathlib.Path, first_step: int):
    """Opens the files and drops lines of steps after `first_step`.

    A run that was killed after its last checkpoint wrote such lines; the
    resumed run writes them again. A run without a checkpoint starts anew
    (`first_step` is 0) and writes all of them again, also those of step 0.
    """
    self._path, self._pending = folder / METRICS_FILE, []
    self._flushed = time.monotonic()
    rows = read_metrics(self._path) if first_step else []
    rows = [row for row in rows if row['step'] <= first_step]
    text = ''.join(json.dumps(row) + '\n' for row in rows)
    write_atomically(self._path, text)
    events = folder / 'tensorboard'
    with storage.written(events):
      events.mkdir(exist_ok=True)
      # Not SummaryWriter: it writes in a thread, where a full disk goes unseen.
      self._events = EventsWriter(str(events / 'events'))
      # TensorBoard hides the points that follow and were written before.
      purged = first_step + 1 if first_step else 0
      start = SessionLog(status=SessionLog.START)
      self._events.write_event(Event(step=purged, session_log=start))

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Adds a point of several curves; it is visible after `flush`."""
    values = [
      Summary.Value(tag=name, simple_value=value)
      for name, value in scalars.items()
    ]
    event = Event(
      wall_time=time.time(), step=step, summary=Summary(value=values)
    )
    self._pending.append(json.dumps({'step': step, **scalars}) + '\n')
    with storage.written(self._path):
      self._events.write_event(event)
    if time.monotonic() - self._flushed > _FLUSH_SECONDS:
      self.flush()

  def flush(self) -> None:
    """Makes the points visible to other programs."""
    self._flushed = time.monotonic()
    with storage.written(self._path):
      with self._path.open('a', encoding='utf-8') as file:
        file.write(''.join(self._pending))
      self._pending.clear()
      self._events.flush()

  def close(self) -> None:
    """Flushes and closes the files."""
    self.flush()
    with storage.written(self._path):
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
  """Rows of a metrics.jsonl, up to a line that is damaged or cut short."""
  if not path.exists():
    return []
  rows = []
  for line in path.read_text('utf-8', 'replace').splitlines():
    try:
      row = json.loads(line)
    except ValueError:
      break
    if not isinstance(row, dict) or not isinstance(row.get('step'), int):
      break
    rows.append(row)
  return rows
