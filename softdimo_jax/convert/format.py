"""The description of one kind of official checkpoint."""

import dataclasses
from collections.abc import Callable, Mapping

import flax.linen as nn

from softdimo_jax.convert.shapes import Options
from softdimo_jax.convert.tree import Array, Report
from softdimo_jax.types import Params

StateDict = Mapping[str, Array]
Converted = tuple[Params, Report]


@dataclasses.dataclass(frozen=True)
class CheckpointFormat:
  """One kind of official checkpoint.

  Attributes:
    module: constructor options -> our module of it.
    mark: an official entry that this format has and no other, or one of each
      of its layouts.
    options: shapes of the entries -> constructor options of the module. Its
      keyword arguments are what no shape tells; their defaults are those of
      the released checkpoints.
    convert: (state dict as released, module of its sizes) -> (parameters,
      report). Raises ConversionError unless the two fit exactly.
  """

  module: Callable[..., nn.Module]
  mark: str | tuple[str, ...]
  options: Callable[..., Options]
  convert: Callable[[StateDict, nn.Module], Converted]

  @property
  def marks(self) -> tuple[str, ...]:
    return (self.mark,) if isinstance(self.mark, str) else self.mark

  def has(self, state_dict: StateDict) -> bool:
    """Whether a state dict is of this format, by a mark in it."""
    return any(mark in state_dict for mark in self.marks)
