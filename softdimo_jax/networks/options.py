"""Constructor options of a module that change what its parameters mean."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

# Fields that do not change the meaning of the parameters.
_FREE = (
  *('parent', 'name', 'dropout', 'table_scale', 'timestep_mode'),
  *('grid', 'dtype', 'attention', 'remat', 'unroll'),
)


def meaningful_options(module: nn.Module) -> dict[str, Any]:
  """Fields of a module that change the meaning of its parameters."""
  return {
    field.name: getattr(module, field.name)
    for field in dataclasses.fields(module)
    if field.name not in _FREE
  }


def described(module: nn.Module) -> dict[str, Any]:
  """`meaningful_options` as JSON values, with those of the module's parts."""
  return {
    name: _plain(value) for name, value in meaningful_options(module).items()
  }


def _plain(value: Any) -> Any:
  if isinstance(value, nn.Module):
    return described(value)
  if isinstance(value, Mapping):
    return {str(key): _plain(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [_plain(item) for item in value]
  if value is None or isinstance(value, bool | int | float | str):
    return value
  return str(value)
