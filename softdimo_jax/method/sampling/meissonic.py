"""Meissonic's sampler as a plan (`src/scheduler.py:Scheduler`)."""

import math

import numpy as np

from softdimo_jax.method.sampling import schedules
from softdimo_jax.method.sampling.plans import Plan, spread_plan

# Last value of the official noise scale if only the first is given.
_LAST_TEMPERATURE = 0.01
# Officially the probability of a known token is the largest float32.
_KNOWN_CONFIDENCE = math.log(np.finfo(np.float32).max)


def meissonic_plan(
  steps: int,
  entries: int,
  *,
  masked: np.ndarray | int | None = None,
  schedule: str = 'cosine',
  start_share: float = 1.0,
  guidance_scale: float = 9.0,
  temperature: float = 1.0,
  choice_temperature: tuple[float, float] | float = (2.0, 0.0),
  official_times: bool = True,
) -> Plan:
  """Plan of Meissonic's scheduler and pipeline.

  Args:
    steps: S >= 1; officially 48 or 64.
    entries: L * G.
    masked: number of masked entries in the input: an integer, or int [B] if it
      differs between samples; all entries by default.
    schedule: schedule of the masked share, see `schedules.masked_share`;
      officially 'cosine' or 'linear'.
    start_share: factor on that share; official `starting_mask_ratio`.
    guidance_scale: s in u + s (c - u), the same at every step.
    temperature: divisor of the logits; officially 1.
    choice_temperature: scale of the noise on the confidence at the first and
      last step; a single number is the first, and the last is 0.01.
    official_times: whether the network's time is the number of steps still to
      come, S - 1 to 0; otherwise it is as in training, see
      `MeissonicTransformer.timestep_mode`.

  Raises:
    ValueError: for an unknown schedule, or fewer than one step.
  """
  if steps < 1:
    raise ValueError(f'sampling takes at least 1 step, got {steps}')
  ends = np.ravel(choice_temperature)
  first, last = ends if len(ends) == 2 else (*ends, _LAST_TEMPERATURE)
  share = np.float32(start_share) * schedules.masked_share(
    schedule, schedules.progress_after(steps)
  )
  return spread_plan(
    schedules.falling_counts(
      share, entries, entries if masked is None else masked
    ),
    guidance_scale=guidance_scale,
    temperature=temperature,
    confidence_weight=1.0,
    noise_weight=schedules.linspace(first, last, steps),
    known_confidence=_KNOWN_CONFIDENCE,
    time=np.arange(steps, dtype=np.float32)[::-1] if official_times else None,
  )
