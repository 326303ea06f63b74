"""MaskGit's sampler from an all-masked image."""

import jax
import jax.numpy as jnp

from softdimo_jax.method.sampling.loop import LogitsFn, decode, gumbel_noise
from softdimo_jax.method.sampling.plans import maskgit_plan


def multi_step_sample(
  key: jax.Array,
  logits_fn: LogitsFn,
  *,
  shape: tuple[int, int, int],
  num_codes: int,
  mask_id: int,
  steps: int,
  schedule: str = 'arccos',
  guidance_scale: float = 1.0,
  guidance_schedule: str = 'linear',
  temperature: float = 1.0,
  choice_temperature: float = 4.5,
  order: str = 'confidence',
) -> jax.Array:
  """MaskGit's iterative decoding from an all-masked image.

  At step k every masked entry is sampled; the most confident (log probability
  plus annealed Gumbel noise) stay, the others are masked again.

  Args:
    key: random key.
    logits_fn: (tokens [B, L, G], guidance scale) -> logits [B, L, G, C].
    shape: (B, L, G).
    num_codes: logits that may be sampled: V, or as in the official code V + 1
      with the mask's, for which V - 1 stands in the result.
    mask_id: id of the mask, V.
    steps: S <= L * G.
    schedule: see `maskgit_plan`, as all that follow.
    guidance_scale: s of the last step.
    guidance_schedule: one of GUIDANCE_SCHEDULES.
    temperature: divides the logits.
    choice_temperature: noise on the confidence at the first step.
    order: one of ORDERS.

  Returns:
    int32 tokens [B, L, G].
  """
  _, length, groups = shape
  plan = maskgit_plan(
    steps,
    length * groups,
    schedule=schedule,
    guidance_scale=guidance_scale,
    guidance_schedule=guidance_schedule,
    temperature=temperature,
    choice_temperature=choice_temperature,
    order=order,
  )
  decoding = decode(
    logits_fn,
    plan,
    jnp.full(shape, mask_id),
    gumbel_noise(key, shape, num_codes),
    num_codes=num_codes,
    mask_id=mask_id,
  )
  return jnp.minimum(decoding.tokens, mask_id - 1)
