"""The head of ImageReward and of the aesthetic predictor.

Official classes: `MLP` of THUDM/ImageReward and of
christophschuhmann/improved-aesthetic-predictor. The dropout between the layers
is omitted, because the rewards are frozen.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.networks import layers
from softdimo_jax.ops.precision import at_least_float32


class LinearHead(nn.Module):
  """Linear layers without activations, from features to one number.

  They could be folded into one vector, but match the official entries as is.

  Attributes:
    widths: output widths of the layers; the last is 1.
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
        f'the last width of a head must be 1, the widths are {self.widths}'
      )
    x = features
    for i, width in enumerate(self.widths):
      x = layers.Dense(width, self.dtype, name=f'dense_{i}')(x)
    return at_least_float32(x[:, 0])
