"""Conditions of the generators: class labels or text."""

import dataclasses

import flax.struct
import jax
import jax.numpy as jnp

from softdimo_jax.types import Array


@flax.struct.dataclass
class TextCondition:
  """Features of a batch of prompts, and micro-conditions of the images.

  Attributes:
    states: hidden states of a text tower, float [B, T, E]; padding counts as
      text.
    pooled: pooled features of the same tower, float [B, P].
    micro: micro-conditions, float32 [B, M]: the aesthetic score for MaskGen
      (M = 1); width, height, the two crop offsets and the score for Meissonic
      (M = 5); None for generators without any.
    time: float32 [B], read only by Meissonic; None is 0 or an error, depending
      on its `timestep_mode`.
    final: the same tower's states after its final norm, float [B, T, E], for
      TA-TiTok's decoder; None for other tokenizers. Generators ignore it.
  """

  states: jax.Array
  pooled: jax.Array
  micro: jax.Array | None = None
  time: jax.Array | None = None
  final: jax.Array | None = None


# Labels are int [B]. The null condition is the null label, or the features of
# the empty or negative prompt, with a batch of 1 (or B).
Condition = Array | TextCondition


def batch_size(condition: Condition) -> int:
  """Batch size of a condition, B."""
  return jax.tree.leaves(condition)[0].shape[0]


def at_time(condition: Condition, time: jax.Array) -> Condition:
  """The condition at a time, float32 [] or [B]; labels have no time."""
  if not isinstance(condition, TextCondition):
    return condition
  times = jnp.broadcast_to(time, batch_size(condition))
  return dataclasses.replace(condition, time=times)


def dropped(
  condition: Condition, drop: jax.Array, null: Condition
) -> Condition:
  """Replaces text or label by that of `null` where `drop`, bool [B], is True.

  `micro`, `time` and `final` stay: dropping affects only the text that the
  generator reads, and the decoder still sees the prompt.
  """
  if isinstance(condition, TextCondition) and isinstance(null, TextCondition):
    null = dataclasses.replace(
      null, micro=condition.micro, time=condition.time, final=condition.final
    )
  where = lambda of_null, own: jnp.where(
    drop.reshape(-1, *[1] * (own.ndim - 1)), of_null, own
  )
  return jax.tree.map(where, null, condition)


def with_null(condition: Condition, null: Condition) -> Condition:
  """Batch of 2 B for guidance: the condition, then its null counterpart."""
  everywhere = jnp.ones(batch_size(condition), bool)
  return jax.tree.map(
    lambda *pair: jnp.concatenate(pair),
    condition,
    dropped(condition, everywhere, null),
  )
