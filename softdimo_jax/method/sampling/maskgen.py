"""MaskGen's sampler as a plan (`modeling/maskgen.py:MaskGen_VQ.generate`)."""

import numpy as np

from softdimo_jax.method.sampling import schedules
from softdimo_jax.method.sampling.plans import Plan, spread_plan

MASKGEN_GUIDANCE_SCHEDULES = ('constant', 'linear', 'cosine', 'flipped_cosine')


def maskgen_plan(
  steps: int,
  entries: int,
  *,
  schedule: str = 'arccos',
  guidance_scale: float = 13.0,
  guidance_schedule: str = 'cosine',
  guidance_power: float = 1.0,
  choice_temperature: float = 2.0,
  anneal_temperature: bool = True,
  noisy_confidence: bool = True,
) -> Plan:
  """Plan of MaskGen's `generate`, with the defaults of its examples.

  The noise on the tokens is annealed like that on the confidence, so the last
  step takes the likeliest codes.

  Args:
    steps: S.
    entries: L * G.
    schedule: schedule of the masked share, see `schedules.masked_share`.
    guidance_scale: s of the last step in u + s (c - u); the official scale is
      s - 1, because its formula is c + scale (c - u).
    guidance_schedule: one of MASKGEN_GUIDANCE_SCHEDULES; 'constant' is the
      official 'none'.
    guidance_power: exponent in both cosine schedules; official
      `guidance_decay_scale_pow`.
    choice_temperature: scale of both noises, multiplied by the share of
      remaining steps; official `randomize_temperature`.
    anneal_temperature: whether the temperature falls from about 1.3 to 0.5.
      Otherwise it equals the noise scale, as in the official code: the last
      step then divides by 0 and takes the first code with a positive logit.
    noisy_confidence: whether to add noise to the confidence; official
      `prob_sorting`.

  Raises:
    ValueError: for an unknown schedule.
  """
  rest = 1 - np.arange(1, steps + 1) / steps
  noise = choice_temperature * rest
  share = schedules.masked_share(schedule, schedules.progress_after(steps))
  return spread_plan(
    schedules.falling_counts(share, entries, entries),
    guidance_scale=_guidance_scales(
      guidance_schedule, guidance_scale, steps, guidance_power
    ),
    temperature=0.5 + 0.8 * rest if anneal_temperature else noise,
    confidence_weight=1.0,
    noise_weight=noise if noisy_confidence else 0.0,
    token_noise_weight=noise,
    raw_confidence=True,
  )


def _guidance_scales(
  schedule: str, guidance_scale: float, steps: int, power: float
) -> np.ndarray:
  """s of each step: grows from about 2 to its full value.

  'flipped_cosine' falls from about 1 + s / 2 to 3 - s / 2, which guides away
  from the text if s > 4.
  """
  progress = np.arange(1, steps + 1) / steps
  if schedule == 'constant':
    ramp = np.ones(steps)
  elif schedule == 'linear':
    ramp = progress
  elif schedule == 'cosine':
    ramp = (1 - np.cos(np.pi * progress**power)) / 2
  elif schedule == 'flipped_cosine':
    ramp = np.cos(np.pi * progress**power) / 2
  else:
    raise ValueError(
      f'guidance schedule {schedule!r} is unknown; choose one of '
      f'{MASKGEN_GUIDANCE_SCHEDULES}'
    )
  return 2 + (guidance_scale - 2) * ramp
