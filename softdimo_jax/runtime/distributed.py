"""Several processes as one run, on JAX's own multi-controller runtime."""

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

import jax
import numpy as np
from jax.experimental import multihost_utils

from softdimo_jax.errors import LOST_CODE, Preempted, UserError

# A process that has not been heard of for so long is lost. JAX itself aborts
# after some more, with a stack trace instead of a sentence, in case that the
# thread which should say it cannot.
_SILENCE_SECONDS, _HEARTBEAT_SECONDS = 45, 90
_BEAT_SECONDS = 5
_ALIVE, _DONE = 'alive', 'done'
_ALONE_MILLISECONDS = 7 * 24 * 3600 * 1000
_LEAVE_MILLISECONDS = 10_000


def initialize(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
  """Joins the other processes of the run, if there are any.

  To be called before anything else asks JAX for its devices.

  Args:
    coordinator: host:port of process 0; None, as the other two, where the
      environment tells (TPU, SLURM, GKE, Open MPI) or one process is all.
    num_processes: of the run.
    process_id: of this process, from 0.

  Raises:
    UserError: for flags that are incomplete or make no sense, or when the
      processes do not find each other.
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
      'one with each --process_id and the same --coordinator=HOST:PORT and '
      '--num_processes, or give --num_processes=1 for a run of one process'
    ) from error
  if _client() is not None:
    _watch_others()


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
      f'--process_id={process_id} must lie in 0..{num_processes - 1}, below '
      f'--num_processes={num_processes}'
    )


def _detected() -> bool:
  """Whether the environment is that of one process of several.

  JAX knows how to join; it only should not try on a machine of its own.
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
  """Whether this process writes the files that are not arrays."""
  return jax.process_index() == 0


def agree(text: str) -> None:
  """Raises UserError in all processes unless `text` is the same in all."""
  found = _gathered(zlib.crc32(text.encode()))
  differing = np.flatnonzero(found != found[0])
  if len(differing):
    raise UserError(
      f'process {differing[0]} was started with another configuration or '
      'workdir than process 0; give all the same flags but --process_id'
    )


def together(check: Callable[[], None]) -> None:
  """Runs a check that every process has to pass.

  Args:
    check: raises UserError.

  Raises:
    UserError: the check's own; else, in the processes that passed, that
      another one did not.
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
  """The values of all processes, by their index."""
  if jax.process_count() == 1:
    return np.array([value])
  return multihost_utils.process_allgather(np.array([value], np.uint32)).ravel()


def alone(work: Callable[[], None]) -> None:
  """Process 0 does what the others wait for, and share the outcome of.

  Args:
    work: whatever needs no other process; may raise.

  Raises:
    Preempted: in all, if process 0 was told to stop.
    UserError: in all, if it could not do the work.
  """
  client = _client()
  if client is None:
    work()
    return
  if not is_primary():
    outcome = client.blocking_key_value_get('alone', _ALONE_MILLISECONDS)
    if outcome == 'Preempted':
      raise Preempted('process 0 was stopped; run the same command to continue')
    if outcome != 'done':
      raise UserError(f'process 0 ended with {outcome}; see its message')
    return
  try:
    work()
  except BaseException as error:
    client.key_value_set('alone', type(error).__name__)
    raise
  client.key_value_set('alone', 'done')


def lost(reason: str) -> None:
  """Ends this process at once, because another one has died.

  Args:
    reason: how it was noticed.
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


def _watch_others() -> None:
  """Starts the thread that tells the others of this process, and hears them.

  A collective operation with a dead process may wait for ever.
  """
  client, key = _client(), f'{_ALIVE}/{jax.process_index()}'

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
          lost(f'nothing heard of process {index} for {_SILENCE_SECONDS} s')
      if done.wait(_BEAT_SECONDS):
        say(_DONE)
        return

  def run() -> None:
    # Without process 0 there is nobody to ask; JAX tells the main thread.
    with contextlib.suppress(jax.errors.JaxRuntimeError):
      watch()

  done = threading.Event()
  thread = threading.Thread(target=run, daemon=True)
  thread.start()

  def end() -> None:  # before JAX waits for the others
    done.set()
    thread.join()

  atexit.register(end)


def leave(code: int) -> None:
  """Ends this process after a mistake or a signal.

  The others are given a moment to come to the same end and to say so.
  """
  client = _client()
  if client is None:
    sys.exit(code)
  try:
    client.wait_at_barrier('leave', _LEAVE_MILLISECONDS)
  except jax.errors.JaxRuntimeError:
    _abandon(code)
  sys.exit(code)


def _client():
  """Of the coordination service; None for a process on its own."""
  return jax._src.distributed.global_state.client
