"""Extracts a flat state dict, by official name, from a checkpoint's object."""

from collections.abc import Mapping
from typing import Any

from flax import traverse_util

from softdimo_jax.convert.tree import ConversionError

# Keys under which trainers store the weights, next to optimiser states.
_WRAPPERS = ('model_state_dict', 'state_dict', 'params')
# Prefixes that DataParallel, torch.compile and Flax add to all names.
_PREFIXES = ('module.', '_orig_mod.', 'params/')


def extract(checkpoint: Any, array_type: type) -> dict[str, Any]:
  """The state dict in a checkpoint: official name -> array.

  Args:
    checkpoint: content of the file: the state dict itself, which may be a tree,
      or a mapping with the state dict under one of the usual keys.
    array_type: type of the arrays.

  Raises:
    ConversionError: if there is no state dict, or it contains something else.
  """
  if not isinstance(checkpoint, Mapping):
    raise ConversionError(
      'expected a state dict, not an object of type '
      f'{type(checkpoint).__name__}'
    )
  flat = traverse_util.flatten_dict(dict(_unwrap(checkpoint)))
  state = {'/'.join(map(str, path)): leaf for path, leaf in flat.items()}
  for name, leaf in state.items():
    if not isinstance(leaf, array_type):
      raise ConversionError(
        f'{name} is not a tensor, but an object of type {type(leaf).__name__}'
      )
  return strip_prefixes(state)


def strip_prefixes(state: Mapping[str, Any]) -> dict[str, Any]:
  """Strips a common wrapper prefix such as `module.` from the names."""
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
