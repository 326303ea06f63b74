"""Optimisers from configuration, and the one way to apply an update."""

import jax
import jax.numpy as jnp
import ml_collections
import optax

from softdimo_jax.training.state import Params, Role

DECAYS = ('constant', 'cosine', 'linear')
DTYPES = ('float32', 'bfloat16')


def learning_rate(
  config: ml_collections.ConfigDict, steps: int
) -> optax.Schedule:
  """Linear warm-up from 0 (the first update has rate 0), then a decay.

  Args:
    config: `learning_rate`, `warmup_steps`, `decay` (one of DECAYS) and
      `final_ratio`, the last rate as a share of the peak.
    steps: length of the stage.

  Returns:
    A function of the update's index.

  Raises:
    ValueError: for an unknown decay.
  """
  peak, warmup = config.learning_rate, config.warmup_steps
  rest = max(steps - warmup, 1)
  if config.decay == 'constant':
    after = optax.constant_schedule(peak)
  elif config.decay == 'cosine':
    after = optax.cosine_decay_schedule(peak, rest, config.final_ratio)
  elif config.decay == 'linear':
    after = optax.linear_schedule(peak, peak * config.final_ratio, rest)
  else:
    raise ValueError(
      f'decay {config.decay!r} is unknown; choose one of {DECAYS}'
    )
  if warmup == 0:
    return after
  rise = optax.linear_schedule(0.0, peak, warmup)
  return optax.join_schedules([rise, after], [warmup])


def optimizer(
  config: ml_collections.ConfigDict, steps: int
) -> optax.GradientTransformation:
  """Adam (AdamW with weight decay) behind an optional global-norm clip."""
  adam = optax.adamw(
    learning_rate(config, steps),
    b1=config.b1,
    b2=config.b2,
    eps=config.eps,
    weight_decay=config.weight_decay,
    mu_dtype=config.moment_dtype,
  )
  if config.clip_norm > 0:
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), adam)
  return adam


def create_role(
  params: Params, tx: optax.GradientTransformation, *, ema: bool
) -> Role:
  """A network before its first update; the average starts at `params`.

  Everything is copied: the state will be donated, `params` stays valid.
  """
  copy = lambda: jax.tree.map(jnp.copy, params)
  counters = jnp.zeros((2,), jnp.int32)
  return Role(
    copy(), tx.init(params), copy() if ema else None, *jnp.copy(counters)
  )


def ema_rate(step: jax.Array, decay: float) -> jax.Array:
  """min(decay, (1 + k) / (10 + k)) at update k (official Di[M]O EMA)."""
  step = step.astype(jnp.float32)
  return jnp.minimum(decay, (1 + step) / (10 + step))


def update(
  role: Role,
  gradient: Params,
  tx: optax.GradientTransformation,
  *,
  step: jax.Array,
  ema_decay: float = 0.0,
) -> tuple[Role, dict[str, jax.Array]]:
  """One optimiser step; a gradient that is not finite changes nothing.

  Args:
    role: network to update.
    gradient: of role.params.
    tx: its optimiser.
    step: int32, index of this update; sets the average's rate.
    ema_decay: see `ema_rate`; ignored where role.ema is None.

  Returns:
    (role, metrics: gradient norm, updates skipped so far and in a row).
  """
  norm = optax.tree.norm(gradient)
  finite = jnp.isfinite(norm)
  # Zeros, not NaN, go through the optimiser: its unused result must not
  # poison the selection below.
  safe = jax.tree.map(lambda g: jnp.where(finite, g, 0), gradient)
  delta, opt_state = tx.update(safe, role.opt_state, role.params)
  params = optax.apply_updates(role.params, delta)
  ema = role.ema
  if ema is not None:
    rate = ema_rate(step, ema_decay)
    ema = jax.tree.map(lambda a, p: rate * a + (1 - rate) * p, ema, params)
  keep = lambda new, old: jnp.where(finite, new, old)
  params, opt_state, ema = jax.tree.map(
    keep, (params, opt_state, ema), (role.params, role.opt_state, role.ema)
  )
  bad = (~finite).astype(jnp.int32)
  role = Role(
    params,
    opt_state,
    ema,
    role.skipped + bad,
    (role.skipped_in_a_row + bad) * bad,
  )
  return role, {
    'gradient_norm': norm,
    'skipped': role.skipped,
    'skipped_in_a_row': role.skipped_in_a_row,
  }


def prefix(role: str, metrics: dict[str, jax.Array]) -> dict[str, jax.Array]:
  """Metrics of one of several roles: 'norm' -> 'role/norm'."""
  return {f'{role}/{name}': value for name, value in metrics.items()}
