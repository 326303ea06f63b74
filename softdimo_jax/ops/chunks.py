"""Functions of single positions, applied to a few positions at a time.

Logits over thousands of codes fill the memory at full size: four of Meissonic's
tensors are half a gigabyte an image. What is computed from them needs one
position only.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def map_positions(
  function: Callable[..., Any], size: int, *arrays: jax.Array
) -> Any:
  """`function(*arrays)` in chunks of positions.

  What the function computes on its way exists for one chunk only; its gradient
  computes it again.

  Args:
    function: of arrays with positions on axis 1, each on its own; what it
      returns has them there, too.
    size: positions of a chunk, a divisor of L; 0 is all at once.
    *arrays: [.., L, ...].

  Returns:
    What the function does.

  Raises:
    ValueError: if the size does not divide L.
  """
  if size == 0:
    return function(*arrays)
  length = arrays[0].shape[1]
  if length % size:
    raise ValueError(
      f'chunks of {size} do not divide {length} positions; choose a divisor'
    )

  def split(x: jax.Array) -> jax.Array:
    return x.reshape(len(x), -1, size, *x.shape[2:]).swapaxes(0, 1)

  def join(x: jax.Array) -> jax.Array:
    return x.swapaxes(0, 1).reshape(x.shape[1], -1, *x.shape[3:])

  step = jax.checkpoint(lambda parts: function(*parts), prevent_cse=False)
  return jax.tree.map(join, jax.lax.map(step, tuple(map(split, arrays))))


def map_with_positions(
  function: Callable[..., Any], size: int, *arrays: jax.Array
) -> Any:
  """`map_positions` of a function that also takes the positions.

  Args:
    function: of arrays [.., P, ...] and, last, their positions int [1, P].
    size: see `map_positions`.
    *arrays: [.., L, ...].
  """
  positions = jnp.arange(arrays[0].shape[1])[None]
  return map_positions(function, size, *arrays, positions)
