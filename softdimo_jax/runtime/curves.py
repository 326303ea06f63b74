"""Where scalars go: JSON lines, TensorBoard events and the terminal.

Method names follow clu.metric_writers, which cannot be imported without
TensorFlow.
"""

import json
import pathlib
import sys
import time
from collections.abc import Mapping
from typing import TextIO

import tensorboardX

from softdimo_jax.runtime.files import write_atomically


class MetricWriter:
  """Scalars of one stage as JSON lines and TensorBoard events."""

  def __init__(self, folder: pathlib.Path, first_step: int):
    """Opens the files; lines of steps after `first_step` are dropped.

    Such lines were written by a run that was killed after its last
    checkpoint; they are about to be written again.
    """
    path = folder / 'metrics.jsonl'
    rows = [row for row in read_metrics(path) if row['step'] <= first_step]
    write_atomically(path, ''.join(json.dumps(row) + '\n' for row in rows))
    self._lines = path.open('a', encoding='utf-8')
    self._events = tensorboardX.SummaryWriter(
      str(folder / 'tensorboard'),
      purge_step=first_step + 1 if first_step else None,
    )

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes one point of several curves."""
    self._lines.write(json.dumps({'step': step, **scalars}) + '\n')
    for name, value in scalars.items():
      self._events.add_scalar(name, value, step)

  def flush(self) -> None:
    """Makes what was written visible to other programs."""
    self._lines.flush()
    self._events.flush()

  def close(self) -> None:
    """Flushes and closes the files."""
    self._lines.close()
    self._events.close()


class SilentWriter:
  """Stands for a MetricWriter where another process writes."""

  def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes nothing."""

  def flush(self) -> None:
    """Does nothing."""

  def close(self) -> None:
    """Does nothing."""


def read_metrics(path: pathlib.Path) -> list[dict[str, float]]:
  """Rows of a metrics.jsonl; a last line cut short by a kill is left out."""
  if not path.exists():
    return []
  rows = []
  for line in path.read_text('utf-8').splitlines():
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError:
      break
  return rows


class Progress:
  """Speed and time left: one live line on a terminal, else a line a while."""

  def __init__(
    self,
    name: str,
    first_step: int,
    last_step: int,
    stream: TextIO | None = None,
    period: float = 10.0,
    unit: str = 'steps',
  ):
    """Counts from `first_step` finished steps (or units) to `last_step`."""
    self._name, self._unit = name, unit
    self._first, self._last = first_step, last_step
    self._stream = stream or sys.stderr
    self._live = self._stream.isatty()
    self._period = 0.2 if self._live else period
    self._start = self._printed = time.monotonic()
    self._counted_from = first_step

  def update(self, step: int, scalars: Mapping[str, float]) -> None:
    """Prints if it is time to; `scalars` are the ones worth a look."""
    now = time.monotonic()
    if self._counted_from == self._first:
      # The first call comes after compilation, which says nothing about speed.
      self._start, self._counted_from = now, step
    if now - self._printed < self._period and step < self._last:
      return
    self._printed = now
    self._print(self._line(step, now, scalars), end=step >= self._last)

  def _line(self, step: int, now: float, scalars: Mapping[str, float]) -> str:
    values = '  '.join(f'{k} {v:.4g}' for k, v in scalars.items())
    percent = 100 * step / self._last
    return (
      f'{self._name:<10} {step:>6}/{self._last} {percent:3.0f}%  '
      f'{self._speed(step, now)}{values}'
    )

  def _speed(self, step: int, now: float) -> str:
    """Empty as long as nothing is known of it."""
    if step == self._counted_from:
      return ''
    rate = (step - self._counted_from) / max(now - self._start, 1e-9)
    speed = f'{rate:6.1f} {self._unit}/s'
    if rate < 1:
      speed = f'{1 / rate:6.1f} s a {self._unit.removesuffix("s")}'
    return f'{speed}  {_clock((self._last - step) / rate)} left  '

  def _print(self, line: str, *, end: bool) -> None:
    if self._live:
      finish = '\n' if end else ''
      self._stream.write(f'\r\x1b[2K{line}{finish}')
    else:
      self._stream.write(line + '\n')
    self._stream.flush()


class SilentProgress:
  """Stands for a Progress where another process prints."""

  def update(self, step: int, scalars: Mapping[str, float]) -> None:
    """Prints nothing."""


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  return f'{minutes}:{seconds:02d}'
