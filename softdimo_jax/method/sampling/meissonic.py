"""Meissonic's sampler as a plan (`src/scheduler.py:Scheduler`)."""

import math

import numpy as np

from softdimo_jax.method.sampling import schedules
from softdimo_jax.method.sampling.plans import Plan, spread_plan

# Where the official noise ends if only its beginning is given.
_LAST_TEMPERATURE = 0.01
# Of the largest float32, which stands for the probability of a known token.
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
) -> Plan:
  """Plan of Meissonic's scheduler and pipeline.

  Args:
    steps: S >= 1; officially 48 or 64.
    entries: L * G.
    masked: masked entries of the input: an integer, or int [B] where the
      samples start from different numbers; by default all.
    schedule: of the share of masked entries, see `schedules.masked_share`;
      officially 'cosine' or 'linear'.
    start_share: times that share; official `starting_mask_ratio`.
    guidance_scale: s in u + s (c - u), the same at every step.
    temperature: divides the logits; officially 1.
    choice_temperature: of the noise on the confidence, from the first step to
      the last, which needs none; one number ends at 0.01.

  Raises:
    ValueError: for an unknown schedule, or fewer than one step.
  """
  if steps < 1:
    raise ValueError(f'{steps} sampling steps')
  ends = np.ravel(choice_temperature)
  first, last = ends if len(ends) == 2 else (*ends, _LAST_TEMPERATURE)
  share = np.float32(start_share) * schedules.masked_share(
    schedule, schedules.progress_after(steps)
  )
  return spread_plan(
    _counts(share, entries, entries if masked is None else masked),
    guidance_scale=guidance_scale,
    temperature=temperature,
    confidence_weight=1.0,
    noise_weight=schedules.linspace(first, last, steps),
    known_confidence=_KNOWN_CONFIDENCE,
  )


def _counts(
  share: np.ndarray, entries: int, masked: np.ndarray | int
) -> np.ndarray:
  """Entries that stay masked: fewer than before, one at least, at last none.

  "One at least" also where none were masked, as officially: a known entry is
  then drawn again.

  Args:
    share: float32 [S], of all entries.
    entries: L * G.
    masked: int or int [B], at the beginning.

  Returns:
    int64 [S], or [S, B].
  """
  left, counts = np.asarray(masked), []
  for wanted in np.floor(np.float32(entries) * share).astype(int):
    left = np.maximum(1, np.minimum(left - 1, wanted))
    counts.append(left)
  return np.stack([*counts[:-1], np.zeros_like(left)])
