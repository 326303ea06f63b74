"""Rotary position embedding over several axes (diffusers' `FluxPosEmbed`)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

# Cosine and sine, float32 [N, width of a head].
Rotation = tuple[np.ndarray, np.ndarray]

_MAX_PERIOD = 10_000


def tables(positions: np.ndarray, axes: Sequence[int]) -> Rotation:
  """Cosine and sine tables of positions, computed on the host in float64.

  Args:
    positions: coordinates [N, K].
    axes: channels of a head that rotate with each coordinate, K even numbers.

  Returns:
    The rotation; the two channels of a pair share an angle.
  """
  angles = [
    np.outer(place, 1 / _MAX_PERIOD ** (np.arange(0, width, 2) / width))
    for place, width in zip(positions.T, axes, strict=True)
  ]
  angle = np.concatenate(angles, axis=-1).repeat(2, axis=-1)
  return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def rotate(x: jax.Array, rotation: Rotation) -> jax.Array:
  """Rotates the channel pairs (0, 1), (2, 3), ... of x [B, N, h, d].

  Computed in float32; the result has the dtype of x.
  """
  cosine, sine = (jnp.asarray(table)[:, None] for table in rotation)
  wide = x.astype(jnp.float32)
  pairs = wide.reshape(*x.shape[:-1], -1, 2)
  turned = jnp.stack([-pairs[..., 1], pairs[..., 0]], axis=-1)
  y = wide * cosine + turned.reshape(x.shape) * sine
  return y.astype(x.dtype)
