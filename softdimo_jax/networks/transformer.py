"""The transformer block and its attention, with the originals' numerics."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.networks import layers
from softdimo_jax.ops.parallel import constrain_batch
from softdimo_jax.ops.precision import at_least_float32


def split_heads(x: jax.Array, num_heads: int) -> jax.Array:
  """[B, L, D] -> [B, L, h, D / h].

  Raises:
    ValueError: if the number of heads does not divide the width.
  """
  *shape, width = x.shape
  if width % num_heads:
    raise ValueError(f'width {width} is not divisible by {num_heads} heads')
  return x.reshape(*shape, num_heads, width // num_heads)


class SelfAttention(nn.Module):
  """Multi-head self-attention with biases: [B, L, D] -> [B, L, D].

  `dropout` acts on the attention probabilities only, as in torch. With `causal`
  a position attends to itself and earlier positions. `mask`, bool [B, L], is
  False at positions that are hidden from all; every position must have one left
  to attend to. `attention='cudnn'`, for GPUs in half precision, does not store
  the scores and does not support dropout.
  """

  num_heads: int
  dropout: float = 0.0
  out_init: layers.Initializer = layers.torch_linear_init
  dtype: jnp.dtype = jnp.float32
  qkv_init: layers.Initializer = layers.xavier_stacked
  causal: bool = False
  attention: layers.Attention = 'xla'

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    mask: jax.Array | None = None,
    *,
    deterministic: bool,
  ) -> jax.Array:
    width = x.shape[-1]

    def project(name: str) -> jax.Array:
      y = layers.Dense(width, self.dtype, self.qkv_init, name=name)(x)
      return split_heads(y, self.num_heads)

    query, key, value = project('query'), project('key'), project('value')
    mask = None if mask is None else mask[:, None, None]
    if self.attention == 'xla':
      mixed = self._mix(query, key, value, mask, deterministic)
    else:
      if self.dropout and not deterministic:
        raise ValueError(
          f'attention {self.attention!r} does not support dropout'
        )
      mixed = jax.nn.dot_product_attention(
        query,
        key,
        value,
        mask=mask,
        is_causal=self.causal,
        implementation=self.attention,
      )
    return layers.Dense(width, self.dtype, self.out_init, name='out')(
      mixed.reshape(x.shape)
    )

  def _mix(
    self,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    mask: jax.Array | None,
    deterministic: bool,
  ) -> jax.Array:
    """Attention of [B, L, h, d] with a mask that broadcasts to [B, h, L, L]."""
    query = query * query.shape[-1] ** -0.5
    scores = jnp.einsum('blhd,bmhd->bhlm', query, key)
    if self.causal:
      past = jnp.tri(query.shape[1], dtype=bool)
      scores = jnp.where(past, scores, -jnp.inf)
    if mask is not None:
      scores = jnp.where(mask, scores, -jnp.inf)
    weights = jax.nn.softmax(at_least_float32(scores)).astype(self.dtype)
    weights = nn.Dropout(self.dropout)(weights, deterministic=deterministic)
    return jnp.einsum('bhlm,bmhd->blhd', weights, value)


class Block(nn.Module):
  """Transformer block of all models without joint attention to text and image.

  MaskGit, CLIP and TA-TiTok are pre-norm, MaskBit and Google's are post-norm.

  Written as the body of `nn.scan`: (x, mask) -> (x, x), x [B, L, D], with the
  mask of `SelfAttention` or None.

  Attributes:
    num_heads: attention heads.
    mlp_width: hidden width of the MLP.
    dropout: dropout rate on the attention probabilities, on the MLP's output
      and at a third place, see `dropout_after_attention`.
    dropout_after_attention: whether the third place is the output of attention
      (MaskBit, Google), or the MLP's hidden layer (MaskGit).
    pre_norm: x + f(norm(x)) if True, else norm(x + f(x)).
    epsilon: epsilon of the norms.
    activation: activation of the MLP, a key of `layers.ACTIVATIONS`.
    causal: whether attention is causal (CLIP's text tower).
    kernel_init: initializer of all kernels but query, key and value.
    qkv_init: initializer of query, key and value.
    deterministic: whether dropout is off.
    dtype: dtype of the matrix products.
    attention: see `SelfAttention`.
  """

  num_heads: int
  mlp_width: int
  dropout: float = 0.0
  dropout_after_attention: bool = False
  pre_norm: bool = True
  epsilon: float = 1e-5
  activation: str = 'gelu'
  causal: bool = False
  kernel_init: layers.Initializer = layers.torch_linear_init
  qkv_init: layers.Initializer = layers.xavier_stacked
  deterministic: bool = True
  dtype: jnp.dtype = jnp.float32
  attention: layers.Attention = 'xla'

  @nn.compact
  def __call__(
    self, x: jax.Array, mask: jax.Array | None
  ) -> tuple[jax.Array, jax.Array]:
    x = constrain_batch(x)
    attention = functools.partial(self._attention, mask=mask)
    x = self._residual(x, attention, 'attention_norm')
    x = self._residual(x, self._mlp, 'mlp_norm')
    return x, x

  def _residual(
    self, x: jax.Array, branch: Callable[[jax.Array], jax.Array], name: str
  ) -> jax.Array:
    norm = layers.LayerNorm(self.epsilon, self.dtype, name=name)
    return x + branch(norm(x)) if self.pre_norm else norm(x + branch(x))

  def _drop(self, x: jax.Array) -> jax.Array:
    return nn.Dropout(self.dropout)(x, deterministic=self.deterministic)

  def _attention(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    y = SelfAttention(
      self.num_heads,
      self.dropout,
      self.kernel_init,
      self.dtype,
      self.qkv_init,
      self.causal,
      self.attention,
      name='attention',
    )(x, mask, deterministic=self.deterministic)
    return self._drop(y) if self.dropout_after_attention else y

  def _mlp(self, x: jax.Array) -> jax.Array:
    dense = lambda width, name: layers.Dense(
      width, self.dtype, self.kernel_init, name=name
    )
    y = dense(self.mlp_width, 'mlp_in')(x)
    y = layers.ACTIVATIONS[self.activation](y)
    if not self.dropout_after_attention:
      y = self._drop(y)
    return self._drop(dense(x.shape[-1], 'mlp_out')(y))
