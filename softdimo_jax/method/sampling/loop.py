"""The decoding loop of all iterative samplers, a `jax.lax.scan`."""

import math
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from softdimo_jax.method import masking
from softdimo_jax.method.sampling.draw import keep_likely
from softdimo_jax.method.sampling.plans import Plan
from softdimo_jax.types import Array

# (partly masked tokens int [B, L, G], guidance scale, time) -> logits
# [B, L, G, C]. Hides the network and its guidance. The time is None unless the
# plan has one.
LogitsFn = Callable[[jax.Array, Any, Any], jax.Array]
# Step index -> Gumbel noise for the tokens [B, L, G, num_codes] and for the
# confidence [B, L, G].
Noise = Callable[[jax.Array], tuple[jax.Array, jax.Array]]


@flax.struct.dataclass
class Steps:
  """Trace of all steps; costs nothing under jit if unused.

  Attributes:
    sampled: int32 [S, B, L, G], fresh samples at all entries, known or not.
    predicted: int32 [S, B, L, G], known tokens kept, the others sampled.
    masked: bool [S, B, L, G], entries masked after the step.
  """

  sampled: jax.Array
  predicted: jax.Array
  masked: jax.Array


@flax.struct.dataclass
class Decoding:
  """Result of `decode`.

  Attributes:
    tokens: int32 [B, L, G], prediction of the last step.
    steps: trace of all steps.
  """

  tokens: jax.Array
  steps: Steps


def gumbel_noise(
  keys: jax.Array, shape: tuple[int, int], num_codes: int
) -> Noise:
  """Fresh Gumbel noise at every step, for samples with keys [B], each (L, G).

  The noise of a sample depends on its key only.
  """

  def draw(key: jax.Array, step: jax.Array) -> tuple[jax.Array, jax.Array]:
    sample_key, choice_key = jax.random.split(jax.random.fold_in(key, step))
    return (
      jax.random.gumbel(sample_key, (*shape, num_codes)),
      jax.random.gumbel(choice_key, shape),
    )

  return lambda step: jax.vmap(draw, (0, None))(keys, step)


def decode(
  logits_fn: LogitsFn,
  plan: Plan,
  start: jax.Array,
  noise: Noise,
  *,
  num_codes: int,
  mask_id: int,
  priority: jax.Array | float = 0.0,
  top_k: int = 0,
) -> Decoding:
  """Iterative decoding that follows a plan.

  Each step samples all masked entries at once, then masks those with the
  lowest scores again, as many as the plan prescribes (see `Plan`).

  Args:
    logits_fn: see LogitsFn.
    plan: S steps.
    start: int [B, L, G], `mask_id` at entries to fill in.
    noise: see Noise; `gumbel_noise` draws it from keys.
    num_codes: number of leading logits that may be sampled. The official
      MaskGit also samples the mask's logit (num_codes = V + 1): such an entry
      counts as known, and the model keeps seeing the mask there.
    mask_id: id of the mask, V.
    priority: added to the scores, broadcastable to [B, L, G]; for the Halton
      order see `halton_priority`.
    top_k: number of likeliest codes to sample from; 0 for all.

  Returns:
    The tokens, which may contain `mask_id` if num_codes > mask_id, and the
    trace of all steps.
  """

  def step(
    carry: tuple[jax.Array, jax.Array], inputs: tuple[jax.Array, Plan]
  ) -> tuple[tuple[jax.Array, jax.Array], Steps]:
    (predicted, masked), (index, now) = carry, inputs
    token_noise, choice_noise = noise(index)
    tokens = jnp.where(masked, mask_id, predicted)
    logits = logits_fn(tokens, now.guidance_scale, now.time)
    logits = logits[..., :num_codes].astype(jnp.float32) / now.temperature
    logits = keep_likely(logits, top_k=top_k)
    log_p = logits if now.raw_confidence else jax.nn.log_softmax(logits)
    sampled = _draw(log_p, now.token_noise_weight * token_noise)
    confidence = jnp.take_along_axis(log_p, sampled[..., None], -1)[..., 0]
    predicted = jnp.where(masked, sampled, predicted)
    choice = now.noise_weight * choice_noise
    score = now.confidence_weight * confidence + choice + priority
    known = now.known_confidence
    known = known + choice if math.isfinite(known) else known
    score = jnp.where(masked, score, known)
    masked = masking.lowest_mask(score.reshape(len(start), -1), now.masked)
    masked = masked.reshape(start.shape)
    return (predicted, masked), Steps(sampled, predicted, masked)

  start = start.astype(jnp.int32)
  carry = start, start == mask_id
  (tokens, _), steps = jax.lax.scan(step, carry, (jnp.arange(plan.steps), plan))
  return Decoding(tokens, steps)


def _draw(log_p: jax.Array, noise: Array) -> jax.Array:
  """Codes [B, L, G] drawn from log p with Gumbel noise, both [B, L, G, C]."""
  return (log_p + noise).argmax(-1).astype(jnp.int32)
