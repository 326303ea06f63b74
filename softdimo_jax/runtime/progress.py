"""Progress lines on the terminal."""

import sys
import time
from collections.abc import Mapping
from typing import TextIO


class Progress:
  """Speed and time left: a live line on a terminal, else periodic lines."""

  def __init__(
    self,
    name: str,
    first_step: int,
    last_step: int,
    stream: TextIO | None = None,
    period: float = 10.0,
    unit: str = 'steps',
  ):
    """Starts the clock.

    Args:
      name: printed in front of the counts.
      first_step: finished steps, or other units, at the start.
      last_step: the total.
      stream: standard error by default.
      period: seconds between lines that are not live.
      unit: plural of the counted things.
    """
    self._name, self._unit = name, unit
    self._first, self._last = first_step, last_step
    self._stream = stream or sys.stderr
    self._live = self._stream.isatty()
    self._period = 0.2 if self._live else period
    self._start = self._printed = time.monotonic()
    self._counted_from = first_step

  def update(self, step: int, scalars: Mapping[str, float]) -> None:
    """Prints the line with `scalars` if it is due."""
    now = time.monotonic()
    if self._counted_from == self._first:
      # The first call follows compilation, which must not count as a slow step.
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
    """Empty before there are two reports to measure between."""
    if step == self._counted_from:
      return ''
    rate = (step - self._counted_from) / max(now - self._start, 1e-9)
    speed = f'{rate:6.1f} {self._unit}/s'
    if rate < 1:
      speed = f'{1 / rate:6.1f} s per {self._unit.removesuffix("s")}'
    return f'{speed}  {_clock((self._last - step) / rate)} left  '

  def _print(self, line: str, *, end: bool) -> None:
    if self._live:
      finish = '\n' if end else ''
      self._stream.write(f'\r\x1b[2K{line}{finish}')
    else:
      self._stream.write(line + '\n')
    self._stream.flush()


class SilentProgress:
  """Replaces Progress in processes that do not print."""

  def update(self, step: int, scalars: Mapping[str, float]) -> None:
    """Prints nothing."""


def _clock(seconds: float) -> str:
  minutes, seconds = divmod(round(seconds), 60)
  return f'{minutes}:{seconds:02d}'
