"""What generators are conditioned on: class labels or text."""

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
      score of MaskGen (M = 1); width, height, two offsets of the crop and the
      score of Meissonic (M = 5); None where the generator knows nothing.
    time: float32 [B], what Meissonic with `timestep_mode='ratio'` reads;
      nothing else does.
    final: float [B, T, E], the same tower's states behind its last norm, which
      TA-TiTok's decoder reads; None for other tokenizers. No generator does.
  """

  states: jax.Array
  pooled: jax.Array
  micro: jax.Array | None = None
  time: jax.Array | None = None
  final: jax.Array | None = None


# Labels are int [B]; the null label, or the features of the empty or the
# negative prompt, stand for no condition and have a batch of 1 (or B).
Condition = jax.Array | TextCondition


def batch_size(condition: Condition) -> int:
  """B."""
  return jax.tree.leaves(condition)[0].shape[0]


def dropped(
  condition: Condition, drop: jax.Array, null: Condition
) -> Condition:
  """The text of `null`, or its label, where `drop`, bool [B], is true.

  Only what the generator reads of the text; the image is still to show it.
  """
  if isinstance(condition, TextCondition):
    null = null.replace(
      micro=condition.micro, time=condition.time, final=condition.final
    )
  where = lambda of_null, own: jnp.where(
    drop.reshape(-1, *[1] * (own.ndim - 1)), of_null, own
  )
  return jax.tree.map(where, null, condition)


def with_null(condition: Condition, null: Condition) -> Condition:
  """Batch of 2 B for guidance: the condition, then `null` in its place."""
  everywhere = jnp.ones(batch_size(condition), bool)
  return jax.tree.map(
    lambda *pair: jnp.concatenate(pair),
    condition,
    dropped(condition, everywhere, null),
  )
