"""Position-wise functions, applied to a few positions at a time.

Logits over thousands of codes dominate memory at full size: four such tensors
of Meissonic take half a gigabyte per image. Functions of them that treat every
position independently can run in chunks.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def map_positions(
  function: Callable[..., Any], size: int, *arrays: jax.Array
) -> Any:
  """Computes `function(*arrays)` in chunks of positions.

  Intermediate values exist for one chunk at a time and are recomputed for the
  gradient.

  Args:
    function: treats positions independently; its arguments and results have
      positions on axis 1.
    size: positions per chunk, a divisor of L; 0 processes all at once.
    *arrays: [.., L, ...].

  Returns:
    The results of `function`.

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
