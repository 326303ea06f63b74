"""Convolutional blocks of the VQGAN family, NHWC.

Parameters and norms are float32; `dtype` is the dtype of the convolutions.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp


def conv3(
  features: int, *, stride: int = 1, bias: bool = True, **kwargs
) -> nn.Conv:
  """3x3 convolution; `kwargs` are `dtype` and `name`.

  XLA's SAME padding at stride 2 adds one row and column of zeros, only at the
  bottom and right; the originals do so explicitly.
  """
  return nn.Conv(
    features, (3, 3), strides=stride, padding='SAME', use_bias=bias, **kwargs
  )


def conv1(features: int, *, bias: bool = True, **kwargs) -> nn.Conv:
  """1x1 convolution; `kwargs` are `dtype` and `name`."""
  return nn.Conv(features, (1, 1), use_bias=bias, **kwargs)


def group_norm(num_groups: int, name: str) -> nn.GroupNorm:
  """Group norm in float32 for inputs of any dtype."""
  return nn.GroupNorm(
    num_groups,
    epsilon=1e-6,
    dtype=jnp.float32,
    use_fast_variance=False,
    name=name,
  )


def upsample(x: jax.Array) -> jax.Array:
  """Nearest-neighbour doubling: [B, h, w, D] -> [B, 2 h, 2 w, D]."""
  return x.repeat(2, axis=1).repeat(2, axis=2)


class ResBlock(nn.Module):
  """Pre-norm residual block: [B, h, w, I] -> [B, h, w, features].

  Attributes:
    features: output width; where it differs from the input's, a 1x1
      convolution `nin_shortcut` matches the widths.
    shortcut_after_convs: whether that convolution reads the output of the
      others instead of the block's input, which is then not added at all. A bug
      of Google's MaskGIT tokenizer that MaskBit kept; released weights depend
      on it.
    bias: whether the convolutions have biases.
    num_norm_groups: groups of the group norms.
    dtype: dtype of the convolutions.
  """

  features: int
  shortcut_after_convs: bool = False
  bias: bool = True
  num_norm_groups: int = 32
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    options = {'bias': self.bias, 'dtype': self.dtype}
    y = nn.silu(group_norm(self.num_norm_groups, 'norm1')(x))
    y = conv3(self.features, name='conv1', **options)(y)
    y = nn.silu(group_norm(self.num_norm_groups, 'norm2')(y))
    y = conv3(self.features, name='conv2', **options)(y)
    if x.shape[-1] != self.features:
      source = y if self.shortcut_after_convs else x
      x = conv1(self.features, name='nin_shortcut', **options)(source)
    return x + y


class AttentionBlock(nn.Module):
  """Residual single-head attention over all pixels: [B, h, w, D] -> same."""

  num_norm_groups: int = 32
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    batch, height, width, channels = x.shape
    y = group_norm(self.num_norm_groups, 'norm')(x)

    def project(name: str) -> jax.Array:
      z = conv1(channels, dtype=self.dtype, name=name)(y)
      return z.reshape(batch, height * width, 1, channels)  # one head

    y = jax.nn.dot_product_attention(
      project('q'), project('k'), project('v')
    ).reshape(x.shape)
    return x + conv1(channels, dtype=self.dtype, name='proj_out')(y)


def codebook_init(
  key: jax.Array, shape: tuple[int, int], dtype: jnp.dtype = jnp.float32
) -> jax.Array:
  """U(-1/V, 1/V) for a codebook [V, D], as in all originals."""
  return jax.random.uniform(
    key, shape, dtype, minval=-1 / shape[0], maxval=1 / shape[0]
  )
