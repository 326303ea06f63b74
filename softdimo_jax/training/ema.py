"""The exponential moving average of a network's parameters.

`optim.update` calls `updated` after each optimiser step of a role that has an
average: the student in a distillation, the network in other stages.
"""

import jax
import jax.numpy as jnp

from softdimo_jax.types import Array, Params


def ema_rate(step: Array, decay: float) -> jax.Array:
  """min(decay, (1 + k) / (10 + k)) at update k (official Di[M]O EMA)."""
  step = step.astype(jnp.float32)
  return jnp.minimum(decay, (1 + step) / (10 + step))


def updated(
  average: Params, params: Params, step: Array, decay: float
) -> Params:
  """The average after update `step` of `params`, see `ema_rate`."""
  rate = ema_rate(step, decay)
  return jax.tree.map(lambda a, p: rate * a + (1 - rate) * p, average, params)
