"""Checkpoints and parameter folders, written and read by Orbax.

Each tree is written with the checksums of its files, in the moment before its
folder gets its name: a folder is whole, absent, or found to be damaged.
"""

import logging
import pathlib
import shutil
import sys
from typing import Any, TypeVar

import grain
import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging

from softdimo_jax.errors import UserError
from softdimo_jax.runtime import checksums, distributed, storage
from softdimo_jax.types import Params

# A dataclass of arrays, such as a stage trains.
State = TypeVar('State')
Handler = TypeVar('Handler', bound=ocp.CheckpointHandler)

_ITERATOR = 'data'
_STATE = 'state'
_WINDOW = 'window'
# At most this much of a tree is in host memory while it is saved or restored.
_CONCURRENT_GB = 1


class Checkpoints:
  """Numbered checkpoints of one stage: state and position in the data.

  Writing is atomic, and asynchronous on accelerators: a killed run leaves
  complete checkpoints and a temporary folder that the next run removes.
  """

  def __init__(self, folder: pathlib.Path, *, interval: int, keep: int = 2):
    """Opens `folder`, an absolute path; creates it if needed.

    Damaged checkpoints that are newer than the newest whole one are renamed,
    and what a killed run or a full disk left unfinished is removed.
    """
    self._folder = folder
    self._interval = interval
    distributed.alone(lambda: _clean(folder))
    self._manager = ocp.CheckpointManager(
      folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=ocp.checkpoint_managers.LatestN(keep),
        # The loop decides when to save: it alone knows about signals.
        save_decision_policy=_Always(),
        # On CPU the snapshot of an asynchronous save would be a second copy of
        # the state in the same memory.
        enable_async_checkpointing=jax.default_backend() != 'cpu',
      ),
      handler_registry=ocp.handlers.create_default_handler_registry(
        **{_STATE: _tree(), _ITERATOR: _json(), _WINDOW: _json()}
      ),
    )

  def latest_step(self) -> int | None:
    """Step of the newest complete checkpoint, or None."""
    return self._manager.latest_step()

  def due(self, step: int) -> bool:
    """Whether the loop should save after finishing `step` steps."""
    return step % self._interval == 0

  def save(
    self,
    step: int,
    state: Any,
    iterator: grain.DatasetIterator | None,
    window: list[dict[str, jax.Array]],
  ) -> None:
    """Starts saving; returns once the arrays are copied from the device.

    Args:
      step: number of finished steps.
      state: a tree of arrays.
      iterator: over the data.
      window: metrics of steps that no point of the curves contains yet.
    """
    items: dict[str, Any] = {_STATE: ocp.args.StandardSave(state)}
    scalars = [
      {name: float(value) for name, value in point.items()}
      for point in jax.device_get(window)
    ]
    items[_WINDOW] = ocp.args.JsonSave({'points': scalars})
    if iterator is not None:
      # The same in every process: the position counts global batches.
      items[_ITERATOR] = ocp.args.JsonSave(iterator.get_state())
    with storage.written(self._folder):
      self._manager.save(step, args=ocp.args.Composite(**items))

  def restore(
    self, like: State, iterator: grain.DatasetIterator | None
  ) -> tuple[State, list[dict[str, Any]]]:
    """Reads the newest checkpoint and moves `iterator` to its position.

    Args:
      like: shapes and shardings; the shardings may differ from those saved.
      iterator: over the same batches as the saved one; this process may hold
        other rows of them.

    Returns:
      (state, window as it was saved).

    Raises:
      UserError: if the checkpoint cannot be read.
    """
    step = self.latest_step()
    items: dict[str, Any] = {_STATE: ocp.args.StandardRestore(like)}
    if iterator is not None:
      items[_ITERATOR] = ocp.args.JsonRestore()
    # Earlier versions did not save it.
    if (self._folder / str(step) / _WINDOW).exists():
      items[_WINDOW] = ocp.args.JsonRestore()
    try:
      restored = self._manager.restore(step, args=ocp.args.Composite(**items))
    except Exception as error:
      # Its files match their checksums, unless an earlier version wrote it.
      raise UserError(
        f'checkpoint {self._folder / str(step)} cannot be read '
        f'({_first_line(error)}); move that folder out of {self._folder} and '
        'run again to continue from the previous checkpoint'
      ) from error
    if iterator is not None:
      iterator.set_state(restored[_ITERATOR])
    points = restored[_WINDOW]['points'] if _WINDOW in items else []
    # With the type of the metrics, so that their mean is the same.
    window = [{k: np.float32(v) for k, v in x.items()} for x in points]
    return restored[_STATE], window

  def close(self) -> None:
    """Waits for pending saves."""
    with storage.written(self._folder):
      self._manager.wait_until_finished()
      self._manager.close()


def _is_news(record: logging.LogRecord) -> bool:
  """Whether a log record is not about a disk that cannot be written.

  Orbax logs such errors with tracebacks of its threads, and then raises them.
  """
  error = record.exc_info[1] if record.exc_info else None
  return error is None or storage.refusal(error) is None


absl_logging.get_absl_logger().addFilter(_is_news)


class _Always(ocp.checkpoint_managers.SaveDecisionPolicy):
  """Saves on every call."""

  def should_save(self, step, previous_steps, *, context) -> bool:
    del step, previous_steps, context
    return True


def _tree() -> ocp.StandardCheckpointHandler:
  return _sealed(
    ocp.StandardCheckpointHandler(
      save_concurrent_gb=_CONCURRENT_GB, restore_concurrent_gb=_CONCURRENT_GB
    )
  )


def _json() -> ocp.JsonCheckpointHandler:
  return _sealed(ocp.JsonCheckpointHandler())


def _sealed(handler: Handler) -> Handler:
  """The handler, storing checksums as the last thing before the final name.

  Orbax finds arguments and stored types by a handler's exact class, so that
  this cannot be a subclass.
  """
  finish = handler.finalize

  def finalize(directory) -> None:
    finish(directory)
    checksums.seal(pathlib.Path(directory))

  handler.finalize = finalize
  return handler


def newest_checkpoint(folder: pathlib.Path) -> pathlib.Path | None:
  """The newest whole checkpoint in a folder of `Checkpoints`."""
  newest = sorted(_complete(folder), key=lambda x: int(x.name), reverse=True)
  return next((x for x in newest if not checksums.damage(x)), None)


def _complete(folder: pathlib.Path) -> list[pathlib.Path]:
  # Incomplete and damaged ones have longer names.
  return [x for x in folder.glob('*') if x.name.isdecimal()]


def _clean(folder: pathlib.Path) -> None:
  """See `Checkpoints.__init__`."""
  for unfinished in folder.glob('*.orbax-checkpoint-tmp*'):
    shutil.rmtree(unfinished, ignore_errors=True)
  newest = newest_checkpoint(folder)
  step = -1 if newest is None else int(newest.name)
  damaged = [x for x in _complete(folder) if int(x.name) > step]
  for path in sorted(damaged, key=lambda x: int(x.name)):
    reason = checksums.damage(path)
    then = 'anew' if newest is None else f'from the one of step {step}'
    print(
      f'checkpoint {path} is damaged ({reason}); it is now '
      f'{storage.set_aside(path).name}, and its stage goes on {then}',
      file=sys.stderr,
    )


def save_params(folder: pathlib.Path, params: Params) -> None:
  """Writes a parameter tree atomically; `folder` must be absolute and new.

  All processes of a run must call it; each writes what its devices hold.

  Raises:
    UserError: if the disk is full or read-only.
  """
  with storage.written(folder), ocp.Checkpointer(_tree()) as checkpointer:
    checkpointer.save(folder, args=ocp.args.StandardSave(params))


def load_params(folder: pathlib.Path) -> Params:
  """Reads a folder of `save_params` as host arrays.

  Raises:
    UserError: if it does not exist, is damaged or cannot be read.
  """
  if not folder.exists():
    raise UserError(
      f'there are no parameters in {folder}; finish the run that writes them'
    )
  reason = checksums.damage(folder)
  if reason:
    raise UserError(
      f'parameters {folder} are damaged ({reason}); repeat the command that '
      'wrote them, which restores them from a checkpoint if there is one'
    )
  try:
    with ocp.StandardCheckpointer(
      multiprocessing_options=_on_its_own()
    ) as checkpointer:
      # Shapes come from the file, the device from here: without a target the
      # arrays would be restored to the devices that saved them.
      stored = checkpointer.metadata(folder).item_metadata.tree
      place = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
      target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), stored
      )
      return jax.device_get(checkpointer.restore(folder, target))
  except Exception as error:
    raise UserError(
      f'parameters {folder} cannot be read ({_first_line(error)})'
    ) from error


def _on_its_own() -> ocp.options.MultiprocessingOptions:
  """Reads without waiting for other processes, which may read other folders."""
  if jax.process_count() == 1:
    return ocp.options.MultiprocessingOptions()
  here = jax.process_index()
  return ocp.options.MultiprocessingOptions(
    primary_host=here,
    active_processes={here},
    barrier_sync_key_prefix=f'process_{here}',
  )


def _first_line(error: Exception) -> str:
  lines = str(error).strip().splitlines() or ['']
  text = f'{type(error).__name__}: {lines[0]}'
  return text if len(text) <= 160 else text[:157] + '...'
