"""Checkpoints and parameter folders, written and read by Orbax."""

import pathlib
from typing import Any, TypeVar

import grain
import jax
import orbax.checkpoint as ocp

from softdimo_jax.errors import UserError
from softdimo_jax.types import Params

# A dataclass of arrays, such as a stage trains.
State = TypeVar('State')

_ITERATOR = 'data'
_STATE = 'state'
# At most this much of a tree is in host memory while it is saved or restored.
_CONCURRENT_GB = 1


class Checkpoints:
  """Numbered checkpoints of one stage: state and position in the data.

  Writing is atomic, and asynchronous on accelerators: a killed run leaves
  complete checkpoints and a temporary folder that the next run removes.
  """

  def __init__(self, folder: pathlib.Path, *, interval: int, keep: int = 2):
    """Opens `folder`, an absolute path; creates it if needed."""
    self._folder = folder
    self._interval = interval
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
        **{_STATE: _handler()}
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
  ) -> None:
    """Starts saving; returns once the arrays are copied from the device."""
    items: dict[str, Any] = {_STATE: ocp.args.StandardSave(state)}
    if iterator is not None:
      # The same in every process: the position counts global batches.
      items[_ITERATOR] = ocp.args.JsonSave(iterator.get_state())
    self._manager.save(step, args=ocp.args.Composite(**items))

  def restore(
    self, like: State, iterator: grain.DatasetIterator | None
  ) -> State:
    """Reads the newest checkpoint and moves `iterator` to its position.

    Args:
      like: shapes and shardings; the shardings may differ from those saved.
      iterator: over the same batches as the saved one; this process may hold
        other rows of them.

    Raises:
      UserError: if the checkpoint cannot be read.
    """
    step = self.latest_step()
    items: dict[str, Any] = {_STATE: ocp.args.StandardRestore(like)}
    if iterator is not None:
      items[_ITERATOR] = ocp.args.JsonRestore()
    try:
      restored = self._manager.restore(step, args=ocp.args.Composite(**items))
    except Exception as error:
      raise UserError(
        f'checkpoint {self._folder / str(step)} cannot be read '
        f'({_first_line(error)}); delete that folder and run again to continue '
        'from the previous checkpoint'
      ) from error
    if iterator is not None:
      iterator.set_state(restored[_ITERATOR])
    return restored[_STATE]

  def close(self) -> None:
    """Waits for pending saves."""
    self._manager.wait_until_finished()
    self._manager.close()


class _Always(ocp.checkpoint_managers.SaveDecisionPolicy):
  """Saves on every call."""

  def should_save(self, step, previous_steps, *, context) -> bool:
    del step, previous_steps, context
    return True


def newest_checkpoint(folder: pathlib.Path) -> pathlib.Path | None:
  """Folder of the newest complete checkpoint in a folder of `Checkpoints`."""
  # Incomplete ones have longer names.
  complete = [x for x in folder.glob('*') if x.name.isdecimal()]
  return max(complete, key=lambda x: int(x.name), default=None)


def _handler() -> ocp.StandardCheckpointHandler:
  return ocp.StandardCheckpointHandler(
    save_concurrent_gb=_CONCURRENT_GB, restore_concurrent_gb=_CONCURRENT_GB
  )


def save_params(folder: pathlib.Path, params: Params) -> None:
  """Writes a parameter tree atomically; `folder` must be absolute and new.

  All processes of a run must call it; each writes what its devices hold.
  """
  with ocp.Checkpointer(_handler()) as checkpointer:
    checkpointer.save(folder, args=ocp.args.StandardSave(params))


def load_params(folder: pathlib.Path) -> Params:
  """Reads a folder of `save_params` as host arrays.

  Raises:
    UserError: if it does not exist or cannot be read.
  """
  if not folder.exists():
    raise UserError(
      f'there are no parameters in {folder}; finish the run that writes them'
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
      f'parameters {folder} cannot be read ({_first_line(error)}); delete that '
      'folder and run again to write it anew'
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
