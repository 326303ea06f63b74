"""Joint attention over image and text (the MM-DiT block of SD3, Esser 2024).

Source: `JointTransformerBlock` of diffusers, and Meissonic's
`TransformerBlock`, which adds query and key norms and rotary positions. Each
stream has its own layers and is modulated by the condition (AdaLN-Zero);
attention runs over both streams at once.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.networks import layers, rotary, transformer
from softdimo_jax.ops.parallel import constrain_batch

EPSILON = 1e-6

Streams = tuple[jax.Array, jax.Array]


def modulate(
  x: jax.Array, shift: jax.Array, scale: jax.Array, dtype: jnp.dtype
) -> jax.Array:
  """Normalised x [B, N, D] times 1 + scale, plus shift (both [B, 1, D])."""
  # float32, because adding 1 costs half precision most of its digits.
  factor = 1 + scale.astype(jnp.float32)
  return (layers.standardize(x, EPSILON) * factor + shift).astype(dtype)


class Modulation(nn.Module):
  """Condition [B, D] after its SiLU -> `parts` arrays [B, 1, D].

  The first two are shift and scale. Where there are only two, the official code
  orders them scale, shift; the converter swaps them.
  """

  parts: int
  dtype: jnp.dtype = jnp.float32
  kernel_init: layers.Initializer = layers.normal_02

  @nn.compact
  def __call__(self, condition: jax.Array) -> list[jax.Array]:
    features = self.parts * condition.shape[-1]
    dense = layers.Dense(features, self.dtype, self.kernel_init, name='dense')
    return jnp.split(dense(condition)[:, None], self.parts, axis=-1)


class Stream(nn.Module):
  """The layers of one stream, before and after the attention.

  Attributes:
    width: width of the stream, D.
    num_heads: attention heads.
    mlp_width: hidden width of the MLP.
    read_only: whether the stream is only attended to, without gates, output
      projection and MLP (the last block's text).
    kernel_init: initializer of the kernels; the modulation of a read-only
      stream starts at zero.
    dtype: dtype of the matrix products.
    qk_norm: whether query and key have RMS norms over the width of a head.
  """

  width: int
  num_heads: int
  mlp_width: int
  read_only: bool = False
  kernel_init: layers.Initializer = layers.normal_02
  dtype: jnp.dtype = jnp.float32
  qk_norm: bool = False

  def setup(self) -> None:
    dense = lambda features: layers.Dense(
      features, self.dtype, self.kernel_init
    )
    zeros = nn.initializers.zeros_init()
    self.modulation = Modulation(
      2 if self.read_only else 6,
      self.dtype,
      zeros if self.read_only else self.kernel_init,
    )
    self.query, self.key, self.value = (dense(self.width) for _ in range(3))
    if self.qk_norm:
      norm = lambda: layers.RMSNorm(EPSILON, self.dtype)
      self.query_norm, self.key_norm = norm(), norm()
    if not self.read_only:
      self.out = dense(self.width)
      self.mlp_in, self.mlp_out = dense(self.mlp_width), dense(self.width)

  def before(
    self,
    x: jax.Array,
    condition: jax.Array,
    rotation: rotary.Rotation | None = None,
  ) -> tuple[list[jax.Array], list[jax.Array]]:
    """Query, key and value of x [B, N, D], and the rest of the modulation.

    Query, key and value are [B, N, h, D / h]; `rotation`, for N positions,
    rotates the first two. The second list is an argument of `after`.
    """
    shift, scale, *rest = self.modulation(condition)
    y = modulate(x, shift, scale, self.dtype)
    projections = (self.query, self.key, self.value)
    query, key, value = (
      transformer.split_heads(project(y), self.num_heads)
      for project in projections
    )
    if self.qk_norm:
      query, key = self.query_norm(query), self.key_norm(key)
    if rotation is not None:
      query, key = (rotary.rotate(part, rotation) for part in (query, key))
    return [query, key, value], rest

  def after(
    self, x: jax.Array, mixed: jax.Array, rest: list[jax.Array]
  ) -> jax.Array:
    """Adds the attention output `mixed` [B, N, h, D / h] and the MLP to x."""
    gate, mlp_shift, mlp_scale, mlp_gate = rest
    x = x + gate * self.out(mixed.reshape(x.shape))
    y = modulate(x, mlp_shift, mlp_scale, self.dtype)
    y = layers.ACTIVATIONS['gelu_tanh'](self.mlp_in(y))
    return x + mlp_gate * self.mlp_out(y)


class JointBlock(nn.Module):
  """Body of `layers.scan_blocks`: ((image, text), condition) -> same, image.

  Image [B, L, D], text [B, T, D], condition [B, D] after its SiLU; an optional
  third argument rotates the image's positions.

  Attributes:
    num_heads: attention heads.
    mlp_width: hidden width of the MLPs.
    last: whether this is the network's last block, which returns the text
      unchanged.
    kernel_init: initializer of the kernels.
    dtype: dtype of the matrix products.
    attention: implementation of `jax.nn.dot_product_attention`: 'xla' or, on
      GPUs in half precision, 'cudnn'.
    qk_norm: see `Stream`.
  """

  num_heads: int
  mlp_width: int
  last: bool = False
  kernel_init: layers.Initializer = layers.normal_02
  dtype: jnp.dtype = jnp.float32
  attention: layers.Attention = 'xla'
  qk_norm: bool = False

  @nn.compact
  def __call__(
    self,
    streams: Streams,
    condition: jax.Array,
    rotation: rotary.Rotation | None = None,
  ) -> tuple[Streams, jax.Array]:
    image, text = constrain_batch(streams)
    image_layers = self._stream(image, 'image')
    text_layers = self._stream(text, 'text', read_only=self.last)
    image_qkv, image_rest = image_layers.before(image, condition, rotation)
    text_qkv, text_rest = text_layers.before(text, condition)
    query, key, value = (
      jnp.concatenate(pair, axis=1)
      for pair in zip(image_qkv, text_qkv, strict=True)
    )
    length = image.shape[1]
    if self.last:  # The text has query weights, but nothing reads its output.
      query = query[:, :length]
    mixed = jax.nn.dot_product_attention(
      query, key, value, implementation=self.attention
    )
    image = image_layers.after(image, mixed[:, :length], image_rest)
    if not self.last:
      text = text_layers.after(text, mixed[:, length:], text_rest)
    return (image, text), image

  def _stream(
    self, x: jax.Array, name: str, *, read_only: bool = False
  ) -> Stream:
    return Stream(
      x.shape[-1],
      self.num_heads,
      self.mlp_width,
      read_only,
      self.kernel_init,
      self.dtype,
      self.qk_norm,
      name=name,
    )
