"""Several processes as one run, on JAX's multi-controller runtime."""

import atexit
import contextlib
import importlib.util
import itertools
import os
import pathlib
import sys
import threading
import time
import zlib
from collections.abc import Callable
from typing import Protocol

import jax
import numpy as np
from jax.experimental import multihost_utils

from softdimo_jax.errors import LOST_CODE, Preempted, UserError

# A process without a heartbeat for this long counts as lost. As a fallback for
# a stuck heartbeat thread, JAX aborts later, with a stack trace.
_SILENCE_SECONDS, _HEARTBEAT_SECONDS = 45, 90
_BEAT_SECONDS = 5
_ALIVE, _DONE = 'alive', 'done'
_ALONE_MILLISECONDS = 7 * 24 * 3600 * 1000
_LEAVE_MILLISECONDS = 10_000
_alone_calls = itertools.count()


class _Client(Protocol):
  """The methods of JAX's coordination client that are used here."""

  def key_value_set(
    self, key: str, value: str, allow_overwrite: bool = False
  ) -> None: ...

  def key_value_dir_get(self, key: str) -> list[tuple[str, str]]: ...

  def blocking_key_value_get(self, key: str, timeout_in_ms: int) -> str: ...

  def wait_at_barrier(self, barrier_id: str, timeout_in_ms: int) -> None: ...


def initialize(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
  """Joins the other processes of the run, if there are any.

  Must be called before anything else asks JAX for its devices.

  Args:
    coordinator: host:port of process 0; None, like the other two, for a single
      process and where the environment sets it (TPU, SLURM, GKE, Open MPI).
    num_processes: of the run.
    process_id: of this process, from 0.

  Raises:
    UserError: if flags are missing or invalid, or the processes do not find
      each other.
  """
  given = (coordinator, num_processes, process_id)
  if all(value is None for value in given):
    if not _detected():
      return
  else:
    _check_flags(*given)
    if num_processes == 1:
      return
  try:
    jax.distributed.initialize(
      *given,
      initialization_timeout=300,
      heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
    )
  except (ValueError, RuntimeError) as error:
    reason = str(error).strip().splitlines()[0]
    raise UserError(
      f'the processes of this run did not find each other ({reason}); start '
      'one per --process_id, with the same --coordinator=HOST:PORT and '
      '--num_processes, or give --num_processes=1 for a run of one process'
    ) from error
  client = _client()
  if client is not None:
    _watch_others(client)


def _check_flags(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
  if num_processes == 1:
    return
  if coordinator is None or num_processes is None or process_id is None:
    raise UserError(
      'give --coordinator=HOST:PORT, --num_processes and --process_id '
      'together, or none of them'
    )
  host, colon, port = coordinator.rpartition(':')
  if not (host and colon and port.isdigit()):
    raise UserError(f'--coordinator={coordinator} must be HOST:PORT')
  if not 0 <= process_id < num_processes:
    raise UserError(
      f'--process_id={process_id} must be in 0..{num_processes - 1}, below '
      f'--num_processes={num_processes}'
    )


def _detected() -> bool:
  """Whether the environment describes one of several processes.

  JAX knows how to join; this keeps it from trying on a single machine.
  """
  env = os.environ
  tasks = env.get('SLURM_STEP_NUM_TASKS', env.get('SLURM_NTASKS', '1'))
  if int(tasks or 1) > 1 and 'SLURM_PROCID' in env:
    return True
  if int(env.get('OMPI_COMM_WORLD_SIZE', 1)) > 1:
    return True
  if 'JAX_COORDINATOR_ADDRESS' in env or 'MEGASCALE_COORDINATOR_ADDRESS' in env:
    return True
  if ',' in env.get('TPU_WORKER_HOSTNAMES', ''):
    return True
  return _on_tpu_vm()


def _on_tpu_vm() -> bool:
  if os.environ.get('JAX_PLATFORMS', 'tpu').split(',')[0] != 'tpu':
    return False
  chips = ('/dev/accel0', '/dev/vfio/0')
  has_chip = any(pathlib.Path(chip).exists() for chip in chips)
  return has_chip and importlib.util.find_spec('libtpu') is not None


def is_primary() -> bool:
  """Whether this process writes the files other than arrays."""
  return jax.process_index() == 0


def agree(text: str) -> None:
  """Raises UserError in all processes unless `text` is the same in all."""
  found = _gathered(zlib.crc32(text.encode()))
  differing = np.flatnonzero(found != found[0])
  if len(differing):
    raise UserError(
      f'process {differing[0]} was started with another configuration or '
      'workdir than process 0; give all of them the same flags except '
      '--process_id'
    )


def together(check: Callable[[], None]) -> None:
  """Runs a check that every process has to pass.

  Args:
    check: raises UserError.

  Raises:
    UserError: the check's own, or in the processes that passed, one that names
      the process that failed.
  """
  mistake = None
  try:
    check()
  except UserError as error:
    mistake = error
  failed = np.flatnonzero(_gathered(mistake is not None))
  if mistake is not None:
    raise mistake
  if len(failed):
    raise UserError(f'process {failed[0]} refuses the run; see its message')


def _gathered(value: int) -> np.ndarray:
  """The values of all processes, int or bool [processes], by index."""
  if jax.process_count() == 1:
    return np.array([value])
  return multihost_utils.process_allgather(np.array([value], np.uint32)).ravel()


def alone(work: Callable[[], None]) -> None:
  """Runs `work` on process 0 while the others wait; all raise what it raised.

  All processes must make the same calls in the same order.

  Args:
    work: must not need the other processes; may raise.

  Raises:
    Preempted: in all processes, if process 0 was told to stop.
    UserError: in all processes, if `work` failed.
  """
  client = _client()
  if client is None:
    work()
    return
  key = f'alone/{next(_alone_calls)}'
  if not is_primary():
    outcome = client.blocking_key_value_get(key, _ALONE_MILLISECONDS)
    if outcome == 'Preempted':
      raise Preempted('process 0 was stopped; run the same command to continue')
    if outcome != 'done':
      raise UserError(f'process 0 ended with {outcome}; see its message')
    return
  try:
    work()
  except BaseException as error:
    client.key_value_set(key, type(error).__name__)
    raise
  client.key_value_set(key, 'done')


def lost(reason: str) -> None:
  """Ends this process at once, because another one has died.

  Args:
    reason: how that was noticed.
  """
  print(
    f'error: process {jax.process_index()} lost another process of the run '
    f'({reason}); see the log of the one that died first, and run the same '
    'command on all to continue from the last checkpoint',
    file=sys.stderr,
  )
  _abandon(LOST_CODE)


def _abandon(code: int) -> None:
  """Ends this process without waiting for the others, which cannot answer."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def _watch_others(client: _Client) -> None:
  """Starts the heartbeat thread: publishes our beat, watches the others'.

  Without it a collective operation with a dead process may wait forever.
  """
  key = f'{_ALIVE}/{jax.process_index()}'

  def say(word: str) -> None:
    client.key_value_set(key, word, allow_overwrite=True)

  def watch() -> None:
    heard: dict[str, tuple[str, float]] = {}
    for beat in itertools.count():
      say(str(beat))
      now = time.monotonic()
      for name, word in client.key_value_dir_get(_ALIVE):
        if word == _DONE or word != heard.get(name, ('', now))[0]:
          heard[name] = word, now
        elif now - heard[name][1] > _SILENCE_SECONDS:
          index = name.rpartition('/')[2]
          lost(f'no heartbeat from process {index} for {_SILENCE_SECONDS} s')
      if done.wait(_BEAT_SECONDS):
        say(_DONE)
        return

  def run() -> None:
    # If process 0 is gone the service is too; JAX then ends the main thread.
    with contextlib.suppress(jax.errors.JaxRuntimeError):
      watch()

  done = threading.Event()
  thread = threading.Thread(target=run, daemon=True)
  thread.start()

  def end() -> None:  # must run before JAX waits for the others
    done.set()
    thread.join()

  atexit.register(end)


def leave(code: int) -> None:
  """Ends this process after a mistake or a signal.

  Waits a moment for the others, which may be ending for the same reason.
  """
  client = _client()
  if client is None:
    sys.exit(code)
  try:
    client.wait_at_barrier('leave', _LEAVE_MILLISECONDS)
  except jax.errors.JaxRuntimeError:
    _abandon(code)
  sys.exit(code)


def _client() -> _Client | None:
  """Client of the coordination service; None for a process on its own.

  JAX has no public name for it. Orbax needs it as well and exports it.
  """
  if not jax.distributed.is_initialized():
    return None
  # Here, since most commands run as one process and start sooner without it.
  from orbax.checkpoint import multihost

  return multihost.get_jax_distributed_client()
