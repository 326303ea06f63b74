"""Mask schedules, exact-count masking and the one-step generator's input.

Di[M]O sections 4.2-4.3, official `get_mask_code` and `generate_one_step`.
"""

import math

import chex
import jax
import jax.numpy as jnp

from softdimo_jax.types import Array

NOISE_UNITS = ('absolute', 'table')
SCHEDULES = ('arccos', 'cosine', 'linear', 'square')
RAMPS = ('linear', 'exp', 'cos')


def mask_rate(
  schedule: str, u: jax.Array, *, low: float = 0.0, high: float = 1.0
) -> jax.Array:
  """Share of masked tokens at time u.

  Args:
    schedule: one of SCHEDULES, in the direction of training: `linear` is u
      and `square` u^2 (samplers evaluate them at 1 - u).
    u: uniform draws in [0, 1), any shape.
    low: lower bound of the rate; Meissonic clamps to [0.02, 0.98].
    high: upper bound of the rate.

  Returns:
    float32 in [low, high], same shape as u.

  Raises:
    ValueError: for an unknown schedule.
  """
  u = jnp.asarray(u, jnp.float32)
  if schedule == 'arccos':
    rate = jnp.arccos(u) / (math.pi / 2)
  elif schedule == 'cosine':
    rate = jnp.cos(u * (math.pi / 2))
  elif schedule == 'linear':
    rate = u
  elif schedule == 'square':
    rate = u**2
  else:
    raise ValueError(
      f'mask schedule {schedule!r} is unknown; choose one of {SCHEDULES}'
    )
  return jnp.clip(rate, low, high)


def mask_count(rate: jax.Array, entries: int) -> jax.Array:
  """Number of masked entries: round(rate * entries), at least one."""
  return jnp.maximum(1, jnp.round(rate * entries).astype(jnp.int32))


def lowest_mask(scores: Array, count: Array) -> jax.Array:
  """Marks the `count` lowest scores of every row.

  Args:
    scores: float [B, N].
    count: int [B], or [] for all rows.

  Returns:
    bool [B, N] with exactly min(count, N) True per row; of equal scores the
    earlier entry ranks lower.
  """
  rank = jnp.argsort(jnp.argsort(scores, axis=-1), axis=-1)
  return rank < jnp.asarray(count)[..., None]


def exact_mask(
  key: jax.Array, count: jax.Array, length: int, groups: int = 1
) -> jax.Array:
  """Uniformly random mask with an exact count of masked entries per sample.

  Args:
    key: random key.
    count: int [B], entries to mask of length * groups.
    length: L.
    groups: G; the groups of a position are masked independently.

  Returns:
    bool [B, L, G] with count[b] True entries in sample b.
  """
  chex.assert_rank(count, 1)
  draws = jax.random.uniform(key, (count.shape[0], length * groups))
  return lowest_mask(draws, count).reshape(-1, length, groups)  # [B, L, G]


def remask(
  key: jax.Array,
  tokens: jax.Array,
  mask_id: int,
  *,
  schedule: str,
  low: float = 0.0,
  high: float = 1.0,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Forward process q(x~_t | x): masks an exact count of random entries.

  Args:
    key: random key; one time is drawn per sample.
    tokens: int [B, L, G].
    mask_id: id written to masked entries.
    schedule: see `mask_rate`.
    low: lower bound of the rate.
    high: upper bound of the rate.

  Returns:
    (masked tokens [B, L, G], mask bool [B, L, G], rate float32 [B]).
  """
  chex.assert_rank(tokens, 3)
  batch, length, groups = tokens.shape
  time_key, mask_key = jax.random.split(key)
  rate = mask_rate(
    schedule, jax.random.uniform(time_key, (batch,)), low=low, high=high
  )
  mask = exact_mask(mask_key, mask_count(rate, length * groups), length, groups)
  return jnp.where(mask, mask_id, tokens), mask, rate


def initial_tokens(
  key: jax.Array,
  *,
  batch: int,
  length: int,
  groups: int,
  vocab_size: int,
  mask_id: int,
  mask_ratio: jax.Array | float,
) -> jax.Array:
  """x_init: random codes with round(L G r_init) entries masked.

  See Di[M]O section 4.3.

  Args:
    key: random key.
    batch: B.
    length: L.
    groups: G.
    vocab_size: V, codes are drawn from [0, V).
    mask_id: id written to masked entries.
    mask_ratio: r_init in [0, 1].

  Returns:
    int32 [B, L, G].
  """
  code_key, mask_key = jax.random.split(key)
  codes = jax.random.randint(code_key, (batch, length, groups), 0, vocab_size)
  count = mask_count(jnp.full((batch,), mask_ratio), length * groups)
  mask = exact_mask(mask_key, count, length, groups)
  return jnp.where(mask, mask_id, codes)


def perturb(
  key: jax.Array,
  embeddings: jax.Array,
  noise_scale: jax.Array | float,
  *,
  unit: jax.Array | float = 1.0,
) -> jax.Array:
  """Variance-preserving noise on the one-step generator's input embeddings.

  sqrt(1 - sigma^2) e + sigma unit eps with eps ~ N(0, I), at every position
  (Di[M]O section 4.3, where the unit is 1).

  Args:
    key: random key.
    embeddings: [B, L, D], image positions only.
    noise_scale: sigma in [0, 1].
    unit: standard deviation of the noise at sigma = 1. With that of the
      embeddings, `table_rms`, the mix keeps their variance.

  Returns:
    [B, L, D].
  """
  chex.assert_rank(embeddings, 3)
  noise = jax.random.normal(key, embeddings.shape, embeddings.dtype)
  return mix_noise(embeddings, unit * noise, noise_scale)


def table_rms(table: jax.Array) -> jax.Array:
  """Root mean square of the embeddings of uniformly random codes.

  Args:
    table: [G, V, D], without the row of the mask; rows of different groups are
      taken as uncorrelated.

  Returns:
    float32 [].
  """
  squares = jnp.square(table.astype(jnp.float32))
  return jnp.sqrt(squares.mean((1, 2)).sum())


def mix_noise(
  embeddings: jax.Array, noise: jax.Array, noise_scale: jax.Array | float
) -> jax.Array:
  """`perturb` with given noise [B, L, D]."""
  return (1 - noise_scale**2) ** 0.5 * embeddings + noise_scale * noise


def noise_ramp(curve: str, step: jax.Array, warmup_steps: int) -> jax.Array:
  """Noise scale that grows from 0 to 1 during training (official `get_pert`).

  Args:
    curve: 'linear' and 'cos' reach 1 at `warmup_steps`; 'exp' is
      1 - exp(-step / warmup_steps).
    step: int >= 0, any shape.
    warmup_steps: > 0.

  Returns:
    float32, same shape as step.

  Raises:
    ValueError: for an unknown curve.
  """
  share = jnp.asarray(step, jnp.float32) / warmup_steps
  if curve == 'exp':
    return -jnp.expm1(-share)
  share = jnp.minimum(share, 1)
  if curve == 'linear':
    return share
  if curve == 'cos':
    return (1 - jnp.cos(math.pi * share)) / 2
  raise ValueError(f'ramp {curve!r} is unknown; choose one of {RAMPS}')
