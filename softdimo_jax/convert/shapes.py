"""Shapes of official entries, and sizes that all formats infer from them."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from softdimo_jax.convert.tree import (
  Array,
  ConversionError,
  parameter_shapes,
)
from softdimo_jax.networks.generators.interface import MaskedGenerator
from softdimo_jax.types import Params

Options = dict[str, Any]

# Width of an attention head in most released towers.
_HEAD_WIDTH = 64


class Shapes(dict[str, tuple[int, ...]]):
  """Official name -> shape of the entry."""

  @classmethod
  def of(cls, state_dict: Mapping[str, Array]) -> 'Shapes':
    """Shapes of arrays or of a listing."""
    return cls({name: tuple(x.shape) for name, x in state_dict.items()})

  def __missing__(self, name: str) -> tuple[int, ...]:
    raise ConversionError(f'there is no official entry {name}')

  def count(self, pattern: str) -> int:
    """One past the largest index that `pattern` matches in the names.

    Raises:
      ConversionError: if it matches none, for instance of a renamed encoder.
    """
    matches = (re.match(pattern, name) for name in self)
    count = max((int(match[1]) + 1 for match in matches if match), default=0)
    if not count:
      like = pattern.replace('\\', '').replace('(d+)', 'N')
      raise ConversionError(f'there is no official entry {like}*')
    return count


def heads(width: int, num_heads: int) -> int:
  """`num_heads`, after a check.

  Raises:
    ConversionError: if `num_heads` does not divide the width.
  """
  if width % num_heads:
    raise ConversionError(
      f'width {width} is not divisible by {num_heads} heads; give --num_heads'
    )
  return num_heads


def heads_of_64(width: int, num_heads: int | None = None) -> int:
  """`num_heads`, by default the number of heads of width 64.

  Raises:
    ConversionError: if the number of heads does not divide the width.
  """
  return heads(width, num_heads or max(1, width // _HEAD_WIDTH))


def codes(rows: int, num_classes: int, *, others: int) -> int:
  """Number of codes in a table of codes, classes and `others` more rows.

  Raises:
    ConversionError: if it is not positive.
  """
  count = rows - num_classes - others
  if count < 1:
    raise ConversionError(
      f'a table of {rows} rows is too small for {num_classes} classes; give '
      '--num_classes'
    )
  return count


def generator_params(generator: MaskedGenerator) -> Params:
  """Shapes of a generator's parameters."""
  tokens = (1, generator.length, generator.num_groups)
  return parameter_shapes(
    generator,
    jax.ShapeDtypeStruct(tokens, jnp.int32),
    generator.condition_shape(),
  )


def image(height: int, width: int | None = None, channels: int = 3) -> Array:
  """Shape of a batch of one image; square by default."""
  return jax.ShapeDtypeStruct(
    (1, height, width or height, channels), jnp.float32
  )


def prompt(length: int) -> Array:
  """Shape of a batch of one prompt."""
  return jax.ShapeDtypeStruct((1, length), jnp.int32)
