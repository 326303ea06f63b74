"""SIGTERM and Ctrl-C: finish the step, save, exit with a distinct code.

With several processes, a signal to one of them stops all after the same step,
on which JAX's preemption service (it catches SIGTERM) makes them agree.
"""

import os
import signal
from types import FrameType

import jax
from jax.experimental import multihost_utils

from softdimo_jax.errors import Preempted


class PreemptionNotice:
  """Remembers a signal until the program can act on it safely."""

  def __init__(self) -> None:
    self._signal: int | None = None
    self._shared = False
    self._polls = 0

  def install(self) -> None:
    """Handles SIGTERM and SIGINT; a second SIGINT interrupts at once."""
    for number in (signal.SIGTERM, signal.SIGINT):
      signal.signal(number, self._remember)

  def share(self) -> None:
    """From now on a signal to one process stops all of them.

    Call once the processes have joined: joining hands SIGTERM to JAX's service.
    A single process keeps handling its own signals.
    """
    if jax.process_count() == 1:
      self.unshare()
      return
    self._shared = True
    if self._signal is not None:
      os.kill(os.getpid(), signal.SIGTERM)  # arrived while they joined

  def unshare(self) -> None:
    """From now on a signal stops only the process that receives it."""
    self._shared = False
    self.install()

  def poll(self) -> bool:
    """Whether to stop here; sharing processes must ask at the same points."""
    if not self._shared:
      return self._signal is not None
    self._polls += 1
    if multihost_utils.reached_preemption_sync_point(self._polls):
      self._signal = signal.SIGTERM
      return True
    return False

  def check(self) -> None:
    """Raises Preempted if a signal asked to stop."""
    if self.poll():
      self.stop()

  def stop(self) -> None:
    """Raises Preempted; call once `poll()` returned True and all is saved."""
    name = signal.Signals(self._signal).name
    raise Preempted(f'stopped by {name}; run the same command to continue')

  def _remember(self, number: int, frame: FrameType | None) -> None:
    del frame
    self._signal = number
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if self._shared:
      os.kill(os.getpid(), signal.SIGTERM)  # passes Ctrl-C on to the service
