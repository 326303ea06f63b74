"""Iterative decoding with a plan chosen by name."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from softdimo_jax.method.sampling import plans
from softdimo_jax.method.sampling.loop import LogitsFn, decode, gumbel_noise
from softdimo_jax.method.sampling.maskgen import maskgen_plan
from softdimo_jax.method.sampling.meissonic import meissonic_plan

PLANS = {
  'maskgit': plans.maskgit_plan,
  'maskbit': plans.maskbit_plan,
  'google': plans.google_plan,
  'halton': plans.halton_plan,
  'maskgen': maskgen_plan,
  'meissonic': meissonic_plan,
}


def make_plan(
  name: str,
  steps: int,
  entries: int,
  *,
  guidance_scale: float = 1.0,
  temperature: float = 1.0,
  **options: Any,
) -> plans.Plan:
  """Plan of an official sampler.

  Args:
    name: key of PLANS.
    steps: S.
    entries: L * G.
    guidance_scale: s of the last step.
    temperature: divisor of the logits.
    **options: options of that plan's function.

  Raises:
    ValueError: for an unknown name, schedule or order, too many steps, or an
      option that the plan does not take.
  """
  if name not in PLANS:
    raise ValueError(f'name={name!r} is unknown; choose one of {tuple(PLANS)}')
  if temperature <= 0:
    raise ValueError(
      f'temperature={temperature} must be positive for sampling in many steps'
    )
  if name == 'google':
    if guidance_scale != 1 or temperature != 1:
      raise ValueError('google takes neither guidance nor a temperature')
  elif name == 'maskgen':
    if temperature != 1:
      raise ValueError(
        f'temperature={temperature}: maskgen sets its own; leave it at 1'
      )
    options |= {'guidance_scale': guidance_scale}
  else:
    options |= {'guidance_scale': guidance_scale, 'temperature': temperature}
  try:
    return PLANS[name](steps, entries, **options)
  except TypeError as error:
    raise ValueError(str(error).replace('()', '')) from error


def multi_step_sample(
  keys: jax.Array,
  logits_fn: LogitsFn,
  *,
  shape: tuple[int, int],
  num_codes: int,
  mask_id: int,
  steps: int,
  plan: str = 'maskgit',
  start: tuple[jax.Array, int] | None = None,
  **options: Any,
) -> jax.Array:
  """Samples tokens from a masked model.

  Args:
    keys: random keys [B], one for each sample, which depends on no other.
    logits_fn: see `LogitsFn`.
    shape: (L, G).
    num_codes: number of leading logits that may be sampled: V, or V + 1 with
      the mask's, as in the official MaskGit; a mask in the result becomes
      V - 1.
    mask_id: id of the mask, V.
    steps: S.
    plan: key of PLANS.
    start: (tokens [B, L, G], number of masked entries in each sample) to start
      from, in at most as many steps as there are masked entries; the other
      entries are given. None masks all entries.
    **options: see `make_plan`.

  Returns:
    int32 tokens [B, L, G].

  Raises:
    ValueError: as `make_plan`, and if 'halton' gets a grid that is not square.
  """
  length, groups = shape
  priority = 0.0
  if plan == 'halton':
    side = math.isqrt(length)
    if side**2 != length:
      raise ValueError(f'halton needs a square grid, got {length} positions')
    priority = plans.halton_priority(side, groups)
  tokens, masked = jnp.full((len(keys), *shape), mask_id), length * groups
  if start is not None:
    tokens, masked = start
    steps = min(steps, masked)
  decoding = decode(
    logits_fn,
    make_plan(plan, steps, masked, **options),
    tokens,
    gumbel_noise(keys, shape, num_codes),
    num_codes=num_codes,
    mask_id=mask_id,
    priority=priority,
  )
  return jnp.minimum(decoding.tokens, mask_id - 1)
