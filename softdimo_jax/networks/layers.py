"""Layers shared by the transformers, with the numerics of the originals.

Parameters, norms and softmax are float32; `dtype` is the dtype of the matrix
products. Matrix products have 2-D operands: on CPU, XLA's gradient of a product
with a 3-D left operand is several times slower; elsewhere it is equally fast.
"""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from softdimo_jax.ops.precision import at_least_float32

Initializer = Callable[..., jax.Array]
# Implementation of `jax.nn.dot_product_attention`.
Attention = Literal['xla', 'cudnn']

normal_02 = nn.initializers.normal(0.02)
# Truncated at two standard deviations, not rescaled to 0.02, as Google does.
truncated_normal_02 = nn.initializers.truncated_normal(0.02)
# torch draws query, key and value as one stacked [3 D, D] projection.
xavier_stacked = nn.initializers.variance_scaling(0.5, 'fan_avg', 'uniform')


def gelu(x: jax.Array) -> jax.Array:
  """x Phi(x), by torch's formula.

  flax uses erfc, which is exact for very negative x but several times slower on
  CPU. Computed in float32, because 1 + erf cancels.
  """
  wide = at_least_float32(x)
  return (0.5 * wide * (1 + jax.lax.erf(wide * 0.5**0.5))).astype(x.dtype)


ACTIVATIONS = {
  'gelu': gelu,
  'gelu_tanh': lambda x: nn.gelu(x, approximate=True),
  'quick_gelu': lambda x: x * nn.sigmoid(1.702 * x),  # OpenAI's CLIP
}


def torch_linear_init(
  key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32
) -> jax.Array:
  """U(-1/sqrt(fan_in), 1/sqrt(fan_in)): torch's default for kernels."""
  bound = shape[0] ** -0.5
  return jax.random.uniform(key, shape, dtype, -bound, bound)


def sinusoid_angles(
  values: jax.Array, count: int, *, max_period: float
) -> jax.Array:
  """Angles of sinusoidal features: float [B] -> float32 [B, count].

  Frequencies fall geometrically from 1 towards 1 / max_period.
  """
  frequencies = _frequencies(count, max_period)
  return values.astype(jnp.float32)[:, None] * frequencies


def _frequencies(count: int, max_period: float) -> np.ndarray:
  """float32 [count] with torch's rounding: large values amplify the last bit.

  The exponent is float32 and its exponential nearly exact. Where the rounding
  of the exponential is ambiguous, the exact frequency decides; this agrees with
  torch in all fixtures.
  """
  index, log_period = np.arange(count), np.log(max_period)
  exponent = np.float32(-log_period) * index.astype(np.float32)
  power = np.exp((exponent / np.float32(count)).astype(np.float64))
  places = power / np.spacing(power.astype(np.float32))
  unsure = np.abs(places % 1 - 0.5) < 0.025
  exact = np.exp(-log_period * index / count)
  return np.where(unsure, exact, power).astype(np.float32)


def matmul_2d(x: jax.Array, kernel: jax.Array, dtype: jnp.dtype) -> jax.Array:
  """x [..., I] times kernel [I, O] -> [..., O] in `dtype`."""
  flat = x.reshape(-1, kernel.shape[0]).astype(dtype)
  return (flat @ kernel.astype(dtype)).reshape(*x.shape[:-1], -1)


class Dense(nn.Module):
  """x [..., I] -> [..., features]."""

  features: int
  dtype: jnp.dtype = jnp.float32
  kernel_init: Initializer = torch_linear_init
  bias_init: Initializer = nn.initializers.zeros_init()
  use_bias: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (x.shape[-1], self.features)
    kernel = self.param('kernel', self.kernel_init, shape)
    product = matmul_2d(x, kernel, self.dtype)
    if not self.use_bias:
      return product
    bias = self.param('bias', self.bias_init, (self.features,))
    return product + bias.astype(self.dtype)


def standardize(x: jax.Array, epsilon: float) -> jax.Array:
  """Scales x to mean 0 and variance 1 over the last axis, in float32.

  The variance takes two passes, as in the originals: with epsilon 1e-12, one
  pass loses precision on rows of low variance.
  """
  x = at_least_float32(x)
  centred = x - x.mean(-1, keepdims=True)
  variance = jnp.square(centred).mean(-1, keepdims=True)
  return centred * jax.lax.rsqrt(variance + epsilon)


class LayerNorm(nn.Module):
  """Layer norm over the last axis, statistics in float32, output in `dtype`."""

  epsilon: float
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    width = x.shape[-1]
    scale = self.param('scale', nn.initializers.ones_init(), (width,))
    bias = self.param('bias', nn.initializers.zeros_init(), (width,))
    normal = standardize(x, self.epsilon)
    return (normal * scale + bias).astype(self.dtype)


class RMSNorm(nn.Module):
  """Root-mean-square norm over the last axis, float32 inside as `LayerNorm`."""

  epsilon: float
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = x.astype(jnp.float32)
    scale = self.param('scale', nn.initializers.ones_init(), x.shape[-1:])
    mean_square = jnp.square(x).mean(-1, keepdims=True)
    normal = x * jax.lax.rsqrt(mean_square + self.epsilon)
    return (normal * scale).astype(self.dtype)


REMAT_POLICIES = {
  'none': None,
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  'full': jax.checkpoint_policies.nothing_saveable,
}


def rematerialized(
  block: type[nn.Module], remat: str, *, prevent_cse: bool = True
) -> type[nn.Module]:
  """A block that is recomputed in the backward pass.

  Args:
    block: module class.
    remat: key of REMAT_POLICIES; 'none' recomputes nothing.
    prevent_cse: required unless the block is the body of a loop.
  """
  if remat == 'none':
    return block
  return nn.remat(block, prevent_cse=prevent_cse, policy=REMAT_POLICIES[remat])


def scan_blocks(
  block: type[nn.Module],
  depth: int,
  *,
  remat: str = 'none',
  unroll: int = 1,
) -> type[nn.Module]:
  """`depth` equal blocks as one module, with parameters stacked on axis 0.

  Args:
    block: body (carry, *shared) -> (carry, output); outputs are stacked, and
      `shared` is the same for all blocks, or None.
    depth: number of blocks.
    remat: key of REMAT_POLICIES, which activations the backward pass keeps.
    unroll: blocks per loop iteration; `depth` removes the loop, which lets
      XLA drop unused outputs and is faster at small sizes.

  Returns:
    A module class with the block's constructor.
  """
  return nn.scan(
    rematerialized(block, remat, prevent_cse=False),
    # Captured intermediates are stacked like the parameters.
    variable_axes={'params': 0, 'intermediates': 0},
    split_rngs={'params': True, 'dropout': True},
    in_axes=nn.broadcast,  # pyright: ignore[reportArgumentType]: typed as int
    length=depth,
    unroll=unroll,
  )
