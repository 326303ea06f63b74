"""Samplers over a `logits_fn`: one step, and MaskGit's confidence sampler.

`logits_fn(tokens [B, L, G], guidance_scale) -> logits [B, L, G, C]` hides the
network and its guidance. Samplers draw from the first `num_codes` logits, so
that a generator with a logit for the mask (MaskGit) cannot emit it.
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

LogitsFn = Callable[[jax.Array, jax.Array], jax.Array]

GUIDANCE_SCHEDULES = ('constant', 'linear', 'cosine')
ORDERS = ('confidence', 'random')


def sample_tokens(
  key: jax.Array,
  logits: jax.Array,
  *,
  temperature: float = 1.0,
  top_k: int = 0,
  top_p: float = 1.0,
) -> jax.Array:
  """Independent categorical draw at every entry (Di[M]O one-step decoding).

  Args:
    key: random key.
    logits: [B, L, G, V].
    temperature: divides the logits; 0 takes the arg max.
    top_k: keeps the k largest logits; 0 keeps all.
    top_p: drops codes once the cumulative probability of the better ones
      exceeds p; the best is always kept. 1 keeps all.

  Returns:
    int32 [B, L, G].
  """
  logits = logits.astype(jnp.float32)
  if temperature == 0:
    return logits.argmax(-1).astype(jnp.int32)
  logits = logits / temperature
  if top_k:
    kth = jax.lax.top_k(logits, top_k)[0][..., -1:]
    logits = jnp.where(logits < kth, -jnp.inf, logits)
  if top_p < 1:
    logits = jnp.where(_outside_nucleus(logits, top_p), -jnp.inf, logits)
  return jax.random.categorical(key, logits).astype(jnp.int32)


def _outside_nucleus(logits: jax.Array, top_p: float) -> jax.Array:
  order = jnp.argsort(-logits, axis=-1)
  sorted_p = jax.nn.softmax(jnp.take_along_axis(logits, order, -1))
  before = jnp.cumsum(sorted_p, -1) - sorted_p
  rank = jnp.argsort(order, axis=-1)
  return jnp.take_along_axis(before > top_p, rank, -1)


def unmask_counts(schedule: str, steps: int, entries: int) -> np.ndarray:
  """Entries revealed at each step (official MaskGit `adap_sche`).

  Computed in float32 on the host, because the counts of the official
  implementation depend on its rounding.

  Args:
    schedule: 'root', 'linear', 'square', 'cosine' or 'arccos'.
    steps: S, 1 <= S <= entries.
    entries: L * G.

  Returns:
    int64 [S], positive, summing to `entries`.

  Raises:
    ValueError: for an unknown schedule or if S entries cannot be revealed.
  """
  if not 1 <= steps <= entries:
    raise ValueError(
      f'{steps} sampling steps for {entries} entries: each step must reveal at '
      'least one entry, so choose between 1 and the number of entries'
    )
  if steps == 1:
    return np.array([entries])
  r = np.linspace(1, 0, steps, dtype=np.float32)
  curves = {
    'root': lambda: 1 - np.sqrt(r),
    'linear': lambda: 1 - r,
    'square': lambda: 1 - r**2,
    'cosine': lambda: np.cos(r * np.float32(np.pi / 2)),
    'arccos': lambda: np.arccos(r) / np.float32(np.pi / 2),
  }
  if schedule not in curves:
    raise ValueError(
      f'unmasking schedule {schedule!r} is unknown; choose one of '
      f'{tuple(curves)}'
    )
  value = curves[schedule]().astype(np.float32)
  counts = np.rint(value / value.sum() * np.float32(entries)).astype(np.int64)
  counts = np.maximum(counts, 1)
  counts[-1] += entries - counts.sum()
  # With nearly as many steps as entries the remainder turns negative in the
  # official code; taking it from the largest steps keeps every step positive.
  while counts[-1] < 1:
    counts[np.argmax(counts[:-1])] -= 1
    counts[-1] += 1
  return counts


def guidance_scales(
  schedule: str, guidance_scale: float, steps: int
) -> np.ndarray:
  """Guidance of each step as s in u + s (c - u), float32 [S].

  'constant' is s everywhere; 'linear' ramps s - 1 from 0 to its full value
  (MaskGit); 'cosine' is MaskBit's (1 - cos(pi (k / S))) / 2 with power 1.

  Raises:
    ValueError: for an unknown schedule.
  """
  step = np.arange(steps)
  if schedule == 'constant' or steps == 1:
    ramp = np.ones(steps)
  elif schedule == 'linear':
    ramp = step / (steps - 1)
  elif schedule == 'cosine':
    ramp = (1 - np.cos(np.pi * step / steps)) / 2
  else:
    raise ValueError(
      f'guidance schedule {schedule!r} is unknown; choose one of '
      f'{GUIDANCE_SCHEDULES}'
    )
  return (1 + (guidance_scale - 1) * ramp).astype(np.float32)


@flax.struct.dataclass
class _Plan:
  """What changes from step to step; every field is [S]."""

  count: jax.Array
  guidance_scale: jax.Array
  choice_temperature: jax.Array
  index: jax.Array


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

  At step k every masked entry is sampled; the `count[k]` most confident (log
  probability plus annealed Gumbel noise) stay, the others are masked again.

  Args:
    key: random key.
    logits_fn: see the module's docstring.
    shape: (B, L, G).
    num_codes: logits that may be sampled.
    mask_id: id of the mask.
    steps: S <= L * G.
    schedule: see `unmask_counts`.
    guidance_scale: s of the last step.
    guidance_schedule: one of GUIDANCE_SCHEDULES.
    temperature: divides the logits.
    choice_temperature: Gumbel noise on the confidence at the first step,
      annealed linearly to 0.
    order: 'confidence', or 'random' to reveal uniformly random entries
      (unbiased with respect to the teacher's conditionals).

  Returns:
    int32 tokens [B, L, G].

  Raises:
    ValueError: for an unknown schedule or order, or S > L * G.
  """
  if order not in ORDERS:
    raise ValueError(
      f'unmasking order {order!r} is unknown; choose one of {ORDERS}'
    )
  batch, length, groups = shape
  entries = length * groups
  index = np.arange(steps)
  plan = _Plan(
    count=jnp.asarray(unmask_counts(schedule, steps, entries), jnp.int32),
    guidance_scale=jnp.asarray(
      guidance_scales(guidance_schedule, guidance_scale, steps)
    ),
    choice_temperature=jnp.asarray(
      choice_temperature * (1 - index / max(steps - 1, 1)), jnp.float32
    ),
    index=jnp.asarray(index),
  )

  def reveal(tokens: jax.Array, step: _Plan) -> tuple[jax.Array, None]:
    sample_key, choice_key = jax.random.split(
      jax.random.fold_in(key, step.index)
    )
    logits = logits_fn(tokens, step.guidance_scale)[..., :num_codes]
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)
    proposal = jax.random.categorical(sample_key, log_p).astype(jnp.int32)
    score = jax.random.gumbel(choice_key, tokens.shape)
    if order == 'confidence':
      confidence = jnp.take_along_axis(log_p, proposal[..., None], -1)[..., 0]
      score = confidence + step.choice_temperature * score
    score = jnp.where(tokens == mask_id, score, -jnp.inf)
    score = score.reshape(batch, entries)
    rank = jnp.argsort(jnp.argsort(-score, axis=-1), axis=-1)
    chosen = (rank < step.count).reshape(shape)
    return jnp.where(chosen, proposal, tokens), None

  start = jnp.full(shape, mask_id, jnp.int32)
  return jax.lax.scan(reveal, start, plan)[0]
