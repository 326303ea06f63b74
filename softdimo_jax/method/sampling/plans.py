"""Plans: the official samplers, step by step."""

import math

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from softdimo_jax.method.sampling import schedules

ORDERS = ('confidence', 'warm_up', 'random')
# Random steps at the start of the order 'warm_up'.
_RANDOM_STEPS = 2


@flax.struct.dataclass
class Plan:
  """Settings of each step; the leading axis is S, the steps.

  After a step the entries with the lowest scores stay masked, where

      score = confidence_weight * log p(token) + noise_weight * noise
      token = arg max (log p + token_noise_weight * noise)

  Known entries are masked again only if `masked` exceeds the number of entries
  that were masked: then the first ones, or with a finite `known_confidence`
  those with the lowest noise.

  Attributes:
    masked: int [S] or [S, B], entries that stay masked after the step.
    guidance_scale: float32 [S], s in u + s (c - u).
    temperature: float32 [S], divisor of the logits.
    confidence_weight: float32 [S].
    noise_weight: float32 [S].
    token_noise_weight: float32 [S]; 1 draws from p, 0 takes its mode.
    raw_confidence: whether log p is replaced by the unnormalised logits, as in
      MaskGen; positions are then compared without their normalisers.
    known_confidence: replaces log p at entries that were already known.
    time: float32 [S], time that the network reads; None leaves it to the
      network.
  """

  masked: np.ndarray
  guidance_scale: np.ndarray
  temperature: np.ndarray
  confidence_weight: np.ndarray
  noise_weight: np.ndarray
  token_noise_weight: np.ndarray
  raw_confidence: bool = flax.struct.field(pytree_node=False, default=False)
  known_confidence: float = flax.struct.field(
    pytree_node=False, default=math.inf
  )
  time: np.ndarray | None = None

  @property
  def steps(self) -> int:
    """Number of steps S."""
    return len(self.guidance_scale)


def spread_plan(
  masked: np.ndarray,
  *,
  raw_confidence: bool = False,
  known_confidence: float = math.inf,
  time: np.ndarray | None = None,
  **fields: np.ndarray | float,
) -> Plan:
  """Plan from fields given as numbers or float [S].

  Args:
    masked: int [S] or [S, B].
    raw_confidence: see `Plan`.
    known_confidence: see `Plan`.
    time: see `Plan`.
    **fields: the other fields of `Plan`; `guidance_scale`, `temperature` and
      `token_noise_weight` default to 1.
  """
  names = ('guidance_scale', 'temperature', 'token_noise_weight')
  constant = dict.fromkeys(names, 1.0) | fields
  spread = lambda value: np.broadcast_to(np.float32(value), len(masked))
  spreads = {name: spread(value) for name, value in constant.items()}
  return Plan(
    masked.astype(np.int32),
    **spreads,
    raw_confidence=raw_confidence,
    known_confidence=known_confidence,
    time=time,
  )


def maskgit_plan(
  steps: int,
  entries: int,
  *,
  schedule: str = 'arccos',
  guidance_scale: float = 1.0,
  guidance_schedule: str = 'linear',
  temperature: float = 1.0,
  choice_temperature: float = 4.5,
  order: str = 'confidence',
) -> Plan:
  """MaskGit's sampler (`MaskGIT.sample` and Di[M]O's `val_sample`).

  Args:
    steps: S <= entries.
    entries: L * G.
    schedule: see `unmask_counts`.
    guidance_scale: s of the last step; official w = s - 1.
    guidance_schedule: see `guidance_scales`.
    temperature: divisor of the logits; the official `sm_temp` multiplies them.
    choice_temperature: scale of the noise on the confidence at the first step,
      annealed linearly to 0 at the last; official `r_temp`. 0 is the official
      `randomize="no"`.
    order: 'confidence' reveals confident entries first; 'random' reveals
      uniformly random ones (unbiased with respect to the teacher's
      conditionals); 'warm_up' does so for two steps, then follows the
      confidence without noise.

  Raises:
    ValueError: for an unknown schedule or order, or S > entries.
  """
  if order not in ORDERS:
    raise ValueError(
      f'unmasking order {order!r} is unknown; choose one of {ORDERS}'
    )
  counts = schedules.unmask_counts(schedule, steps, entries)
  index = np.arange(steps)
  if order == 'confidence':
    confidence = np.ones(steps)
    noise = choice_temperature * (1 - index / max(steps - 1, 1))
  else:
    last = steps if order == 'random' else _RANDOM_STEPS
    confidence = (index >= last).astype(np.float32)
    noise = 1 - confidence
  return spread_plan(
    entries - np.cumsum(counts),
    guidance_scale=schedules.guidance_scales(
      guidance_schedule, guidance_scale, steps
    ),
    temperature=temperature,
    confidence_weight=confidence,
    noise_weight=noise,
  )


def maskbit_plan(
  steps: int,
  entries: int,
  *,
  schedule: str = 'arccos',
  guidance_scale: float = 1.0,
  guidance_schedule: str = 'cosine',
  guidance_power: float = 1.0,
  temperature: float = 1.0,
  anneal_temperature: bool = False,
  choice_temperature: float = 4.5,
) -> Plan:
  """MaskBit's sampler (`modeling/modules/sampling.py:sample`).

  Args:
    steps: S.
    entries: L * G; the groups of a position are masked independently.
    schedule: see `maskbit_counts`.
    guidance_scale: s of the last step; the official scale is s - 1.
    guidance_schedule: see `guidance_scales`; the official 'none' and 'linear'
      are 'constant' and 'open_linear'.
    guidance_power: official `scale_pow`.
    temperature: divisor of the logits.
    anneal_temperature: whether the temperature falls from about 1.3 to 0.5
      instead (official `use_sampling_annealing`).
    choice_temperature: scale of the noise on the confidence, multiplied by the
      share of remaining steps; official `randomize_temperature`.
  """
  rest = 1 - np.arange(1, steps + 1) / steps
  return spread_plan(
    schedules.maskbit_counts(schedule, steps, entries),
    guidance_scale=schedules.guidance_scales(
      guidance_schedule, guidance_scale, steps, power=guidance_power
    ),
    temperature=0.5 + 0.8 * rest if anneal_temperature else temperature,
    confidence_weight=1.0,
    noise_weight=choice_temperature * rest,
  )


def google_plan(
  steps: int,
  masked: np.ndarray | int,
  *,
  schedule: str = 'cosine',
  choice_temperature: float = 4.5,
  first_step: int = 0,
) -> Plan:
  """Google's MaskGIT (`libml/parallel_decode.py:decode`), without guidance.

  Args:
    steps: S, official `num_iter`.
    masked: number of masked tokens in the input: an integer, or int [B] if it
      differs between samples.
    schedule: see `google_share`.
    choice_temperature: scale of the noise on the confidence, multiplied by the
      share of remaining steps.
    first_step: index of the plan's first step; official `start_iter`.
  """
  rest = 1 - np.arange(1, steps + 1) / steps
  return spread_plan(
    schedules.google_counts(schedule, steps, masked, first_step=first_step),
    confidence_weight=1.0,
    noise_weight=choice_temperature * rest[first_step:],
  )


def halton_plan(
  steps: int,
  entries: int,
  *,
  guidance_scale: float = 1.0,
  temperature: np.ndarray | float = 1.0,
) -> Plan:
  """Halton-MaskGIT's sampler; pass `halton_priority` to `decode` with it.

  Args:
    steps: S <= entries.
    entries: L * G.
    guidance_scale: s, the same at every step.
    temperature: divisor of the logits, a number or [S] (the official schedule
      multiplies by 1 / linspace(min, max, S)^power).

  Raises:
    ValueError: if S > entries.
  """
  if not 1 <= steps <= entries:
    raise ValueError(f'{steps} sampling steps for {entries} entries')
  return spread_plan(
    entries - schedules.halton_counts(steps, entries),
    guidance_scale=guidance_scale,
    temperature=temperature,
    confidence_weight=0.0,
    noise_weight=0.0,
  )


def halton_priority(
  side: int, groups: int = 1, *, shift: jax.Array | int = 0
) -> jax.Array:
  """Scores that make `decode` reveal a grid in the Halton order.

  Args:
    side: side of the grid; L = side^2.
    groups: G; the groups of a position are revealed one after the other.
    shift: number of positions to roll the order by: an integer, or int [B] in
      [0, L) for a different order per sample (the official `randomize`).

  Returns:
    float32 [L, G] or [B, L, G], distinct; the first entry to reveal has the
    highest score.
  """
  row, column = schedules.halton_order(side).T
  rank = np.argsort(row * side + column)  # rank of each position in the order
  moved = (jnp.asarray(shift)[..., None] + rank) % side**2  # [.., L]
  ranks = moved[..., None] * groups + np.arange(groups)
  return -ranks.astype(jnp.float32)
