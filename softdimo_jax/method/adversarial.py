"""GAN losses on the frozen teacher's features (Soft-Di[M]O section 3.2).

The discriminator gets real and generated embeddings with the same entries
masked. Its heads return one logit per sample and tapped layer; the losses here
receive the mean over layers, [B].
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

ADVERSARIES = ('logistic', 'hinge')


def generator_losses(
  fake_logits: jax.Array, *, kind: str = 'logistic'
) -> jax.Array:
  """Loss of every sample: non-saturating -log D(fake), or -D(fake) for hinge.

  Args:
    fake_logits: float [B].
    kind: one of ADVERSARIES.

  Returns:
    float32 [B]; the generator's loss is their mean.

  Raises:
    ValueError: for an unknown kind.
  """
  if kind == 'logistic':
    return jax.nn.softplus(-fake_logits)
  if kind == 'hinge':
    return -fake_logits
  raise ValueError(f'GAN loss {kind!r} is unknown; choose one of {ADVERSARIES}')


def discriminator_loss(
  real_logits: jax.Array, fake_logits: jax.Array, *, kind: str = 'logistic'
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Discriminator loss and accuracy (0.5 is chance).

  Args:
    real_logits: float [B].
    fake_logits: float [B].
    kind: one of ADVERSARIES.

  Returns:
    (float32 scalar, metrics).

  Raises:
    ValueError: for an unknown kind.
  """
  if kind == 'logistic':
    loss = jax.nn.softplus(-real_logits) + jax.nn.softplus(fake_logits)
  elif kind == 'hinge':
    loss = jax.nn.relu(1 - real_logits) + jax.nn.relu(1 + fake_logits)
  else:
    raise ValueError(
      f'GAN loss {kind!r} is unknown; choose one of {ADVERSARIES}'
    )
  accuracy = 0.5 * ((real_logits > 0).mean() + (fake_logits < 0).mean())
  return loss.mean(), {
    'gan/discriminator_loss': loss.mean(),
    'gan/discriminator_accuracy': accuracy,
  }


def r1_penalty(
  logits_fn: Callable[[jax.Array], jax.Array], real: jax.Array
) -> jax.Array:
  """R1 penalty 0.5 E ||d D(real) / d real||^2 on embeddings.

  Args:
    logits_fn: [B, L, D] -> [B].
    real: float [B, L, D].

  Returns:
    float32 scalar.
  """
  gradient = jax.grad(lambda x: logits_fn(x).sum())(real)
  return 0.5 * jnp.square(gradient).sum((1, 2)).mean()
