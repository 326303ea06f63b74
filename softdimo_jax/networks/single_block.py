"""Attention and MLP in parallel over one sequence (the single block of Flux).

Source: Meissonic's `SingleTransformerBlock`. The condition modulates the input
(AdaLN-Zero); one layer reads both branches.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.networks import layers, rotary, transformer
from softdimo_jax.networks.joint_block import EPSILON, Modulation, modulate
from softdimo_jax.ops.parallel import constrain_batch


class SingleBlock(nn.Module):
  """Body of `layers.scan_blocks`: (x, condition, rotation) -> (x, x).

  x [B, N, D], condition [B, D] after its SiLU, rotation for N positions.

  Attributes:
    num_heads: attention heads.
    mlp_width: hidden width of the MLP.
    kernel_init: initializer of the kernels.
    dtype: dtype of the matrix products.
    attention: see `joint_block.JointBlock`.
  """

  num_heads: int
  mlp_width: int
  kernel_init: layers.Initializer = layers.normal_02
  dtype: jnp.dtype = jnp.float32
  attention: layers.Attention = 'xla'

  @nn.compact
  def __call__(
    self, x: jax.Array, condition: jax.Array, rotation: rotary.Rotation
  ) -> tuple[jax.Array, jax.Array]:
    x = constrain_batch(x)
    shift, scale, gate = Modulation(
      3, self.dtype, self.kernel_init, name='modulation'
    )(condition)
    y = modulate(x, shift, scale, self.dtype)
    hidden = self._dense(self.mlp_width, 'mlp_in')(y)
    branches = [
      self._attention(y, rotation),
      layers.ACTIVATIONS['gelu_tanh'](hidden),
    ]
    both = jnp.concatenate(branches, axis=-1)
    x = x + gate * self._dense(x.shape[-1], 'out')(both)
    return x, x

  def _attention(self, y: jax.Array, rotation: rotary.Rotation) -> jax.Array:
    """Output of the attention without a projection: [B, N, D]."""

    def project(name: str) -> jax.Array:
      z = self._dense(y.shape[-1], name)(y)
      return transformer.split_heads(z, self.num_heads)

    def turned(name: str) -> jax.Array:
      norm = layers.RMSNorm(EPSILON, self.dtype, name=f'{name}_norm')
      return rotary.rotate(norm(project(name)), rotation)

    mixed = jax.nn.dot_product_attention(
      turned('query'),
      turned('key'),
      project('value'),
      implementation=self.attention,
    )
    return mixed.reshape(y.shape)

  def _dense(self, features: int, name: str) -> layers.Dense:
    return layers.Dense(features, self.dtype, self.kernel_init, name=name)
