"""Every Orbax call of the project."""

import pathlib
from typing import TypeVar

import grain
import jax
import orbax.checkpoint as ocp

from softdimo_jax.errors import UserError
from softdimo_jax.types import Params

# A dataclass of arrays, such as a stage trains.
State = TypeVar('State')

_ITERATOR = 'data'
_STATE = 'state'
# Most of a tree that is in host memory on its way to or from the disk.
_CONCURRENT_GB = 1


class Checkpoints:
  """Numbered checkpoints of one stage: state and position in the data.

  Writing is atomic, and asynchronous on accelerators: a killed run leaves
  whole checkpoints and a temporary folder that the next one removes.
  """

  def __init__(self, folder: pathlib.Path, *, interval: int, keep: int = 2):
    """Opens `folder`, an absolute path, and makes it where needed."""
    self._folder = folder
    self._interval = interval
    self._manager = ocp.CheckpointManager(
      folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=ocp.checkpoint_managers.LatestN(keep),
        # Saving is decided by the loop, which alone knows about signals.
        save_decision_policy=_Always(),
        # The snapshot of an asynchronous save is a second copy of the state
        # where the device's memory is the host's.
        enable_async_checkpointing=jax.default_backend() != 'cpu',
      ),
      handler_registry=ocp.handlers.create_default_handler_registry(
        **{_STATE: _handler()}
      ),
    )

  def latest_step(self) -> int | None:
    """Newest whole checkpoint, or None."""
    return self._manager.latest_step()

  def due(self, step: int) -> bool:
    """Whether the loop should save after finishing `step` steps."""
    return step % self._interval == 0

  def save(
    self,
    step: int,
    state: State,
    iterator: grain.DatasetIterator | None,
  ) -> None:
    """Starts to save; returns once the arrays are copied from the device."""
    items = {_STATE: ocp.args.StandardSave(state)}
    if iterator is not None:
      # The same in every process: all count batches of the whole run.
      items[_ITERATOR] = ocp.args.JsonSave(iterator.get_state())
    self._manager.save(step, args=ocp.args.Composite(**items))

  def restore(
    self, like: State, iterator: grain.DatasetIterator | None
  ) -> State:
    """Newest checkpoint; moves `iterator` to its position.

    Args:
      like: shapes and shardings, which need not be those of the devices that
        saved it.
      iterator: of the same batches as the saved one, whatever rows of them.

    Raises:
      UserError: if it cannot be read.
    """
    step = self.latest_step()
    items = {_STATE: ocp.args.StandardRestore(like)}
    if iterator is not None:
      items[_ITERATOR] = ocp.args.JsonRestore()
    try:
      restored = self._manager.restore(step, args=ocp.args.Composite(**items))
    except Exception as error:
      raise UserError(
        f'checkpoint {self._folder / str(step)} cannot be read '
        f'({_first_line(error)}); delete that folder and run again to continue '
        'from the checkpoint before it'
      ) from error
    if iterator is not None:
      iterator.set_state(restored[_ITERATOR])
    return restored[_STATE]

  def close(self) -> None:
    """Waits for running saves."""
    self._manager.wait_until_finished()
    self._manager.close()


class _Always(ocp.checkpoint_managers.SaveDecisionPolicy):
  """The manager saves whenever it is asked to."""

  def should_save(self, step, previous_steps, *, context) -> bool:
    del step, previous_steps, context
    return True


def _handler() -> ocp.StandardCheckpointHandler:
  return ocp.StandardCheckpointHandler(
    save_concurrent_gb=_CONCURRENT_GB, restore_concurrent_gb=_CONCURRENT_GB
  )


def save_params(folder: pathlib.Path, params: Params) -> None:
  """Writes a parameter tree, atomically; `folder` must be absolute and new.

  All processes of a run call it; each writes what its devices hold.
  """
  with ocp.Checkpointer(_handler()) as checkpointer:
    checkpointer.save(folder, args=ocp.args.StandardSave(params))


def load_params(folder: pathlib.Path) -> Params:
  """Reads what `save_params` wrote, as host arrays.

  Raises:
    UserError: if it is not there or cannot be read.
  """
  if not folder.exists():
    raise UserError(
      f'there are no parameters in {folder}; finish the run that writes them'
    )
  try:
    with ocp.StandardCheckpointer(
      multiprocessing_options=_on_its_own()
    ) as checkpointer:
      # Shapes come from the file, the place from here: without a target the
      # arrays would go back to the devices they were saved from.
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
  """Reading waits for no other process, which may not read the same."""
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
