"""The head that ImageReward and the aesthetic predictor have in common.

Official classes: `MLP` of THUDM/ImageReward and of
christophschuhmann/improved-aesthetic-predictor. Dropout, which lies between
its layers in training, is left out: the rewards are frozen.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.networks import layers
from softdimo_jax.ops.precision import at_least_float32


class LinearHead(nn.Module):
  """Features to one number, through layers without activations.

  They could be folded into one vector; apart they are the official entries.

  Attributes:
    widths: of the outputs of the layers; the last is 1.
    dtype: dtype of the matrix products; parameters are float32.

  Raises:
    ValueError: at first use, if the last width is not 1.
  """

  widths: tuple[int, ...] = (1024, 128, 64, 16, 1)
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    """float [B, E] -> float32 [B]."""
    if self.widths[-1] != 1:
      raise ValueError(
        f'a head of widths {self.widths} does not end with one number'
      )
    x = features
    for i, width in enumerate(self.widths):
      x = layers.Dense(width, self.dtype, name=f'dense_{i}')(x)
    return at_least_float32(x[:, 0])
