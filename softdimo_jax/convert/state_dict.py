"""From what a checkpoint holds to a flat state dict under official names."""

from collections.abc import Mapping
from typing import Any

from flax import traverse_util

from softdimo_jax.convert.tree import ConversionError

# Where trainers keep the weights, beside optimiser states and counters.
_WRAPPERS = ('model_state_dict', 'state_dict', 'params')
# What DataParallel, torch.compile and Flax put before every name.
_PREFIXES = ('module.', '_orig_mod.', 'params/')


def extract(checkpoint: Any, array_type: type) -> dict[str, Any]:
  """The state dict in a checkpoint: official name -> array.

  Args:
    checkpoint: what the file holds: the state dict itself, which may be a
      tree, or a mapping with the state dict under one of the usual names.
    array_type: of the arrays.

  Raises:
    ConversionError: if there is no state dict, or something else is in it.
  """
  if not isinstance(checkpoint, Mapping):
    raise ConversionError(
      f'no state dict, but an object of type {type(checkpoint).__name__}'
    )
  flat = traverse_util.flatten_dict(dict(_unwrap(checkpoint)))
  state = {'/'.join(map(str, path)): leaf for path, leaf in flat.items()}
  for name, leaf in state.items():
    if not isinstance(leaf, array_type):
      raise ConversionError(
        f'{name} is no tensor, but an object of type {type(leaf).__name__}'
      )
  return strip_prefixes(state)


def strip_prefixes(state: Mapping[str, Any]) -> dict[str, Any]:
  """Names without what wrappers of a model put before all of them."""
  state = dict(state)
  while prefix := _common_prefix(state):
    state = {name.removeprefix(prefix): leaf for name, leaf in state.items()}
  return state


def _unwrap(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
  for wrapper in _WRAPPERS:
    if isinstance(checkpoint.get(wrapper), Mapping):
      return checkpoint[wrapper]
  return checkpoint


def _common_prefix(state: Mapping[str, Any]) -> str | None:
  for prefix in _PREFIXES:
    if state and all(name.startswith(prefix) for name in state):
      return prefix
  return None
