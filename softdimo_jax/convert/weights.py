"""Loads official weights from a converted folder, a file or the Hub.

Unconverted weights are converted in memory with the same strict checks; convert
to disk if you load them repeatedly.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.convert import folder, registry, sources, tree
from softdimo_jax.convert.rule_weights import RULE, rule_params
from softdimo_jax.convert.tree import ConversionError
from softdimo_jax.errors import UserError
from softdimo_jax.types import Params

Module = TypeVar('Module', bound=nn.Module)


@dataclasses.dataclass(frozen=True)
class Weights(Generic[Module]):
  """A network whose parameters are read on demand.

  Attributes:
    module: the network.
    source: source of the parameters, for reports.
    load: function that reads the parameters.
  """

  module: Module
  source: str
  load: Callable[[], Params]


def find(
  where: str,
  family: str,
  *,
  default: Callable[[], Module],
  inputs: Sequence[jax.ShapeDtypeStruct] | None = None,
  kernel_gain: float = 1.0,
  overrides: Mapping[str, Any] | None = None,
) -> Weights[Module]:
  """Weights of one family, from any source.

  Args:
    where: output folder of `python -m softdimo_jax.convert`, official file,
      folder that contains one, Hub id (see `sources.locate`), or 'rule' for
      synthetic weights.
    family: name in the registry.
    default: constructor of the module for 'rule'.
    inputs: inputs of this module, by default images and, if it has a text
      tower, prompts.
    kernel_gain: see `rule_params`, for 'rule'.
    overrides: constructor options that the shapes in an official file do not
      determine; without them, the configuration files beside it are read.

  Raises:
    UserError: if there are no such weights, or they are of another family.
  """
  if where == RULE:
    module = default()
    load = lambda: rule_params(_shapes(module, inputs), kernel_gain=kernel_gain)
    return Weights(module, RULE, load)
  path = pathlib.Path(where).expanduser()
  if folder.is_converted(path):
    module = folder.load_module(path, family)
    return Weights(module, where, lambda: folder.load_converted(path)[1])
  path = sources.locate(where)
  state = sources.load(path)
  try:
    options = registry.infer(family, state, overrides or {}, path.parent)
    module = registry.build(family, options)
  except ValueError as error:
    raise UserError(f'{where}: {error}') from error
  # Read again on demand, because a host's memory does not fit several such
  # models at once.
  return Weights(module, where, lambda: _converted(path, family, module))


def _converted(path: pathlib.Path, family: str, module: nn.Module) -> Params:
  try:
    return registry.convert(family, sources.load(path), module)[0]
  except ConversionError as error:
    raise UserError(f'{path}: {error}') from error


def _shapes(
  module: nn.Module, inputs: Sequence[jax.ShapeDtypeStruct] | None
) -> Params:
  if inputs is None:
    side = getattr(module, 'image', module).resolution
    inputs = [jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)]
    if hasattr(module, 'text'):
      ids = jax.ShapeDtypeStruct((1, module.text.length), jnp.int32)
      inputs.append(ids)
  return tree.parameter_shapes(module, *inputs)
