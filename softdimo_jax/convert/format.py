"""Description of a format of official checkpoints."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from softdimo_jax.convert.shapes import Options, Shapes
from softdimo_jax.convert.tree import Array, Report
from softdimo_jax.types import Params

StateDict = Mapping[str, Array]
Converted = tuple[Params, Report]


@dataclasses.dataclass(frozen=True)
class CheckpointFormat:
  """A format of official checkpoints.

  Attributes:
    module: constructor options -> our module.
    mark: an official entry unique to this format, or one per layout.
    options: shapes of the entries -> constructor options of the module. Keyword
      arguments are the options that shapes do not determine; they default to
      the released checkpoints' values.
    convert: (state dict as released, module of its sizes) -> (parameters,
      report). Raises ConversionError unless the two fit exactly.
    config: (folder of the weights, shapes) -> keyword arguments of `options`
      that its configuration files give; None if no such files are known.
  """

  module: Callable[..., nn.Module]
  mark: str | tuple[str, ...]
  options: Callable[..., Options]
  convert: Callable[[StateDict, Any], Converted]
  config: Callable[[pathlib.Path, Shapes], Options] | None = None

  @property
  def marks(self) -> tuple[str, ...]:
    return (self.mark,) if isinstance(self.mark, str) else self.mark

  def has(self, state_dict: StateDict) -> bool:
    """Whether a state dict has this format, according to its mark."""
    return any(mark in state_dict for mark in self.marks)
