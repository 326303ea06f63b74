"""Official weights for use at once: a converted folder, a file, the Hub.

What is not converted yet is converted in memory, as strictly as the command
does it; whoever needs it twice converts it once.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.convert import folder, registry, sources, tree
from softdimo_jax.convert.rule_weights import RULE, rule_params
from softdimo_jax.convert.tree import ConversionError
from softdimo_jax.errors import UserError
from softdimo_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Weights:
  """A network whose parameters are read when they are asked for.

  Attributes:
    module: the network.
    source: where the parameters are from, for reports.
    load: reads them.
  """

  module: nn.Module
  source: str
  load: Callable[[], Params]


def find(
  where: str,
  family: str,
  *,
  default: Callable[[], nn.Module],
  inputs: Sequence[jax.ShapeDtypeStruct] | None = None,
  kernel_gain: float = 1.0,
  overrides: Mapping[str, Any] | None = None,
) -> Weights:
  """Weights of one family, wherever they lie.

  Args:
    where: a folder of `python -m softdimo_jax.convert`, an official file, a
      folder that holds one, a Hub id (see `sources.locate`), or 'rule'.
    family: name in the registry.
    default: makes the module whose weights 'rule' makes up.
    inputs: of a call of this module, by default images and, where it has a
      tower of text, prompts.
    kernel_gain: of 'rule', see `rule_params`.
    overrides: constructor options that no shape of an official file tells.

  Raises:
    UserError: if there are no such weights, or of another family.
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
    module = registry.build(
      family, registry.infer(family, state, overrides or {})
    )
  except ValueError as error:
    raise UserError(f'{where}: {error}') from error
  # Read anew when it is asked for: several such models do not fit beside
  # each other into a host's memory.
  return Weights(module, where, lambda: _converted(path, family, module))


def _converted(path: pathlib.Path, family: str, module: nn.Module) -> Params:
  try:
    return registry.FORMATS[family].convert(sources.load(path), module)[0]
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
