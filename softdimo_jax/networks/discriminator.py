"""Light heads on the frozen teacher's hidden states.

The paper puts heads on several transformer layers and conditions D(., r) on the
mask ratio. The architecture of a head is this project's choice: FiLM driven by
a Fourier embedding of the mask ratio.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.networks import layers


class DiscriminatorHeads(nn.Module):
  """One logit per sample, from tapped hidden states.

  Attributes:
    width: hidden width of a head.
    num_frequencies: frequencies of the mask ratio's Fourier features.
  """

  width: int = 192
  num_frequencies: int = 8

  @nn.compact
  def __call__(self, hidden: jax.Array, mask_ratio: jax.Array) -> jax.Array:
    """Mean over heads and positions.

    Args:
      hidden: hidden states of the frozen teacher, [taps, B, L, D].
      mask_ratio: float [B] in [0, 1], share of masked entries.

    Returns:
      float32 logits [B], positive for real.
    """
    frequency = math.pi * 2.0 ** jnp.arange(self.num_frequencies)
    angle = mask_ratio[:, None] * frequency
    fourier = jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)
    heads = nn.vmap(
      _Head,
      in_axes=(0, None),  # pyright: ignore[reportArgumentType]: typed as int
      variable_axes={'params': 0},
      split_rngs={'params': True},
    )(self.width, name='heads')
    scores = heads(hidden.astype(jnp.float32), fourier)  # [taps, B, L]
    return scores.mean((0, 2))


class _Head(nn.Module):
  width: int

  @nn.compact
  def __call__(self, hidden: jax.Array, fourier: jax.Array) -> jax.Array:
    x = layers.LayerNorm(1e-6, name='norm')(hidden)
    x = layers.Dense(self.width, name='in')(x)
    film = layers.Dense(
      2 * self.width, kernel_init=nn.initializers.zeros_init(), name='film'
    )(fourier)
    scale, shift = jnp.split(film[:, None], 2, axis=-1)
    x = nn.silu(x * (1 + scale) + shift)
    return layers.Dense(1, name='out')(x)[..., 0]  # [B, L]
