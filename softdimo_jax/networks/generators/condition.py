"""What text-to-image generators are conditioned on."""

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class TextCondition:
  """Features of a batch of prompts, and numbers about the images.

  Attributes:
    states: float [B, T, E] of a text tower; padding counts as text.
    pooled: float [B, P] of the same tower.
    micro: float32 [B, M], what else is known of the images: the aesthetic
      score of MaskGen (M = 1); None where the generator knows nothing.
  """

  states: jax.Array
  pooled: jax.Array
  micro: jax.Array | None = None

  def dropped(self, drop: jax.Array, null: 'TextCondition') -> 'TextCondition':
    """The text of `null` where `drop` is true; `micro` stays.

    Args:
      drop: bool [B].
      null: of the empty or the negative prompt; its batch is 1 or B.
    """
    where = lambda of_null, own: jnp.where(
      drop.reshape(-1, *[1] * (own.ndim - 1)), of_null, own
    )
    return self.replace(
      states=where(null.states, self.states),
      pooled=where(null.pooled, self.pooled),
    )

  def with_null(self, null: 'TextCondition') -> 'TextCondition':
    """Batch of 2 B for guidance: the prompts, then `null` in their place."""
    everywhere = jnp.ones(len(self.pooled), bool)
    return jax.tree.map(
      lambda *pair: jnp.concatenate(pair), self, self.dropped(everywhere, null)
    )
