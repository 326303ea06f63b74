"""SIGTERM and Ctrl-C: finish the step, save, leave with a distinct code."""

import signal
from types import FrameType

from softdimo_jax.errors import Preempted


class PreemptionNotice:
  """Remembers a signal until the program is at a safe place to act on it."""

  def __init__(self) -> None:
    self._signal: int | None = None

  def install(self) -> None:
    """Takes over SIGTERM and SIGINT; a second SIGINT interrupts at once."""
    for number in (signal.SIGTERM, signal.SIGINT):
      signal.signal(number, self._remember)

  @property
  def received(self) -> bool:
    """Whether a signal has come."""
    return self._signal is not None

  def check(self) -> None:
    """Raises Preempted if a signal has come."""
    if self._signal is not None:
      name = signal.Signals(self._signal).name
      raise Preempted(f'stopped by {name}; run the same command to continue')

  def _remember(self, number: int, frame: FrameType | None) -> None:
    del frame
    self._signal = number
    signal.signal(signal.SIGINT, signal.default_int_handler)
