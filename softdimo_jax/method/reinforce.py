"""REINFORCE: the unbiased but noisy alternative to soft embeddings.

The score-function estimator (Williams 1992) with a leave-one-out baseline (Kool
et al. 2019). Soft-Di[M]O argues against it without an experiment.
"""

import chex
import jax
import jax.numpy as jnp

from softdimo_jax.method.soft_embedding import RELAXATIONS

# How the gradient of a loss on tokens or images reaches the logits.
ESTIMATORS = (*RELAXATIONS, 'reinforce')


def reinforce_loss(
  logits: jax.Array,
  tokens: jax.Array,
  rewards: jax.Array,
  *,
  temperature: float = 1.0,
) -> jax.Array:
  """Surrogate loss for -E[R] with a leave-one-out baseline.

  Args:
    logits: [B, L, G, V] of the factorised generator, B >= 2.
    tokens: int [B, L, G], sampled from softmax(z / T).
    rewards: [B], higher is better; treated as constants.
    temperature: T > 0.

  Returns:
    float32 scalar.

  Raises:
    ValueError: if B < 2.
  """
  chex.assert_equal_shape_prefix([logits, tokens], 3)
  chex.assert_shape(rewards, (logits.shape[0],))
  batch = rewards.shape[0]
  if batch < 2:
    raise ValueError('the leave-one-out baseline needs a batch of at least 2')
  advantage = (rewards - rewards.mean()) * batch / (batch - 1)
  log_p = jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)
  log_p = jnp.take_along_axis(log_p, tokens[..., None], -1)
  total = log_p.sum((1, 2, 3))  # [B]
  return -(jax.lax.stop_gradient(advantage) * total).mean()
