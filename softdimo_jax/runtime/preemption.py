"""SIGTERM and Ctrl-C: finish the step, save, exit with a distinct code.

Work that does not ask in time (a compilation, the images of an evaluation) is
ended where it is, as SIGKILL would: every file is whole or absent, so that this
loses only what is computed again.

With several processes, a signal to one of them stops all after the same step,
on which JAX's preemption service (it catches SIGTERM) makes them agree.
"""

import contextlib
import functools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

import jax
from jax.experimental import multihost_utils

from softdimo_jax.errors import PREEMPTED_CODE, Preempted

# From a signal to the end of a process that does not stop by itself. Schedulers
# usually wait for 30 seconds.
_GRACE_SECONDS = 15.0
_TICK_SECONDS = 0.2


class PreemptionNotice:
  """Remembers a signal until the program can act on it safely."""

  def __init__(self) -> None:
    self._signal: int | None = None
    self._shared = False
    self._polls = 0
    self._saving = False

  def install(self) -> None:
    """Handles SIGTERM and SIGINT; a second SIGINT interrupts at once."""
    for number in (signal.SIGTERM, signal.SIGINT):
      signal.signal(number, self._remember)
    _bell().notice = self

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

  @contextlib.contextmanager
  def saving(self) -> Iterator[None]:
    """A block that is finished, however long it takes."""
    self._saving = True
    try:
      yield
    finally:
      self._saving = False

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
    raise Preempted(_stopped_by(self._signal or signal.SIGTERM))

  def end_late(self, number: int) -> None:
    """Ends the process after a while; returns if a signal does not stop it.

    Args:
      number: signal that this process received.
    """
    deadline = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < deadline:
      if self._shared or not self._installed:
        return  # The others would wait for this process.
      time.sleep(_TICK_SECONDS)
      if self._saving:
        deadline = time.monotonic() + _GRACE_SECONDS
    with contextlib.suppress(Exception):
      print(_stopped_by(number), file=sys.stderr, flush=True)
      sys.stdout.flush()
    os._exit(PREEMPTED_CODE)

  @property
  def _installed(self) -> bool:
    return signal.getsignal(signal.SIGTERM) == self._remember

  def _remember(self, number: int, frame: FrameType | None) -> None:
    del frame
    self._signal = number
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if self._shared:
      os.kill(os.getpid(), signal.SIGTERM)  # passes Ctrl-C on to the service


class _Bell:
  """A thread that hears of signals even while the main one runs C code."""

  def __init__(self) -> None:
    self.notice: PreemptionNotice | None = None
    self._heard, self._rung = socket.socketpair()
    self._rung.setblocking(False)
    signal.set_wakeup_fd(self._rung.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=self._listen, daemon=True).start()

  def _listen(self) -> None:
    while numbers := self._heard.recv(1):
      if self.notice is not None and numbers[0] in (
        signal.SIGTERM,
        signal.SIGINT,
      ):
        self.notice.end_late(numbers[0])


@functools.cache
def _bell() -> _Bell:
  """The thread of this process; started in the main thread."""
  return _Bell()


def _stopped_by(number: int) -> str:
  name = signal.Signals(number).name
  return f'stopped by {name}; run the same command to continue'
