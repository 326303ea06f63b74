"""Small parts of `MeissonicTransformer`."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.networks import layers
from softdimo_jax.networks.joint_block import EPSILON

# Official constants of the sinusoids.
_SINUSOIDS = 256
_MAX_PERIOD = 10_000


class Perceptron(nn.Module):
  """Two layers with a SiLU between them: [B, I] -> [B, width]."""

  width: int
  dtype: jnp.dtype
  use_bias: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    dense = lambda name: layers.Dense(
      self.width, self.dtype, use_bias=self.use_bias, name=name
    )
    return dense('second')(nn.silu(dense('first')(x)))


class Head(nn.Module):
  """[B, L, D] -> logits [B, L, V]; one module, so that it can be frozen."""

  vocab_size: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    dense = lambda features, name: layers.Dense(
      features, self.dtype, use_bias=False, name=name
    )
    x = dense(x.shape[-1], 'first')(x)
    x = layers.RMSNorm(EPSILON, self.dtype, name='norm')(x)
    return dense(self.vocab_size, 'second')(x)


def sinusoids(values: jax.Array) -> jax.Array:
  """[N] -> float32 [N, 256], cosines, then sines."""
  angle = layers.sinusoid_angles(
    values, _SINUSOIDS // 2, max_period=_MAX_PERIOD
  )
  return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def merge(x: jax.Array, grid: tuple[int, int]) -> jax.Array:
  """Merges 2 x 2 positions of a grid: [B, L, D] -> [B, L / 4, 4 D]."""
  rows, columns = grid
  x = x.reshape(len(x), rows // 2, 2, columns // 2, 2, -1)
  return x.swapaxes(2, 3).reshape(len(x), rows * columns // 4, -1)


def part(x: jax.Array, grid: tuple[int, int]) -> jax.Array:
  """Inverse of `merge`; `grid` is the grid of merged positions."""
  rows, columns = grid
  x = x.reshape(len(x), rows, columns, 2, 2, -1)
  return x.swapaxes(2, 3).reshape(len(x), 4 * rows * columns, -1)


def transposed_init(
  key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32
) -> jax.Array:
  """torch's default for transposed convolutions: fan-in counts the outputs."""
  bound = shape[1] ** -0.5
  return jax.random.uniform(key, shape, dtype, -bound, bound)
