"""Optimisers from the configuration, and the update of a network."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

from softdimo_jax.training import ema as averaging
from softdimo_jax.training.state import Role
from softdimo_jax.types import Params

DECAYS = ('constant', 'cosine', 'linear')
DTYPES = ('float32', 'bfloat16')


def learning_rate(
  config: ml_collections.ConfigDict, steps: int
) -> optax.Schedule:
  """Linear warm-up from 0 (the first update has rate 0), then a decay.

  Args:
    config: `learning_rate`, `warmup_steps`, `decay` (one of DECAYS) and
      `final_ratio`, the final rate divided by the peak.
    steps: length of the stage.

  Returns:
    Rate by index of the update.

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
) -> optax.GradientTransformationExtraArgs:
  """Adam (AdamW with weight decay) after an optional global-norm clip.

  Its update takes `finite`, bool []: False leaves the state unchanged.
  """
  adam = _adamw(config, learning_rate(config, steps))
  if config.clip_norm > 0:
    return optax.chain(_clip_by_global_norm(config.clip_norm), adam)
  return adam


def _clip_by_global_norm(limit: float) -> optax.GradientTransformation:
  """optax's clip as a product: its quotients would need a second gradient."""

  def clip(gradient: Params, params: Params | None) -> Params:
    del params
    scale = jnp.minimum(1, limit / optax.tree.norm(gradient))
    return jax.tree.map(lambda g: scale * g, gradient)

  return optax.stateless(clip)


def _adamw(
  config: ml_collections.ConfigDict, rate: Callable[[Any], Any]
) -> optax.GradientTransformationExtraArgs:
  """AdamW with an optimization barrier behind the new moments.

  Without it XLA rematerialises them at each use, which blocks the in-place
  update and copies the old moments. For the same reason the old moments are
  kept here if an update is not `finite`.
  """
  adam = optax.scale_by_adam(
    config.b1, config.b2, config.eps, mu_dtype=config.moment_dtype
  )

  def update(
    gradient: Params,
    state: optax.ScaleByAdamState,
    params: Params,
    *,
    finite: jax.Array,
  ) -> tuple[Params, optax.ScaleByAdamState]:
    _, new = adam.update(gradient, state)
    new = _kept(finite, new, state)
    mu = optax.tree.bias_correction(new.mu, config.b1, new.count)
    nu = optax.tree.bias_correction(new.nu, config.b2, new.count)
    scale, decay = -rate(state.count), config.weight_decay

    def step(m: jax.Array, n: jax.Array, p: jax.Array) -> jax.Array:
      return scale * (m / (jnp.sqrt(n) + config.eps) + decay * p)

    return jax.tree.map(step, mu, nu, params), new

  # optax's type of `update` has no named arguments.
  return optax.GradientTransformationExtraArgs(adam.init, update)  # pyright: ignore[reportArgumentType]


def _kept(finite: jax.Array, new: Params, old: Params) -> Params:
  """`new` if finite, else `old`; materialised before anything reads it."""
  keep = lambda new, old: jax.lax.optimization_barrier(
    jnp.where(finite, new, old)
  )
  return jax.tree.map(keep, new, old)


def create_role(
  params: Params, tx: optax.GradientTransformationExtraArgs, *, ema: bool
) -> Role:
  """A network before its first update; its average starts at `params`.

  Copies everything: the state will be donated, while `params` stays valid.
  """
  copy = lambda: jax.tree.map(jnp.copy, params)
  counters = jnp.zeros((2,), jnp.int32)
  return Role(
    copy(), tx.init(params), copy() if ema else None, *jnp.copy(counters)
  )


def update(
  role: Role,
  gradient: Params,
  tx: optax.GradientTransformationExtraArgs,
  *,
  step: jax.Array,
  ema_decay: float = 0.0,
) -> tuple[Role, dict[str, jax.Array]]:
  """One optimiser step; a gradient that is not finite is skipped.

  Args:
    role: network to update.
    gradient: of role.params.
    tx: its optimiser.
    step: int32, index of this update, which sets the rate of the average.
    ema_decay: see `ema.ema_rate`; ignored if role.ema is None.

  Returns:
    (role, metrics: gradient norm, skipped updates in total and in a row).
  """
  norm = optax.tree.norm(gradient)
  finite = jnp.isfinite(norm)
  delta, opt_state = tx.update(
    gradient, role.opt_state, role.params, finite=finite
  )
  params = optax.apply_updates(role.params, delta)
  params = _kept(finite, params, role.params)
  ema = role.ema
  if ema is not None:
    average = averaging.updated(ema, params, step, ema_decay)
    ema = _kept(finite, average, ema)
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
