"""Di[M]O's token-level divergence as a gradient on the student's logits.

The gradient g of D(p_psi || p_phi) with respect to the auxiliary's logits is
injected, entry by entry, into the student's logits at x_init (Di[M]O Eq. 5-8,
official train_DIMO_MaskGit.py). No gradient flows through sampling, masking,
the teacher or the auxiliary model.
"""

import chex
import jax
import jax.numpy as jnp

from softdimo_jax.ops import parallel

# Logit of padding codes: probability 0, yet a finite log ratio.
_NO_CODE = -1e30

REDUCTIONS = ('sum', 'masked_mean')


def guide(
  conditional: jax.Array,
  unconditional: jax.Array,
  guidance_scale: jax.Array | float,
) -> jax.Array:
  """Classifier-free guidance on logits: u + s (c - u); s = 1 disables it.

  MaskBit's and MaskGen's samplers use c + s' (c - u), so s = s' + 1.
  """
  return unconditional + guidance_scale * (conditional - unconditional)


def logit_gradient(
  teacher_logits: jax.Array,
  auxiliary_logits: jax.Array,
  *,
  beta: float = 0.0,
) -> jax.Array:
  """Gradient of the generalised Jeffrey divergence (Di[M]O Eq. 8, 16).

  D = (1 - beta) FKL + beta RKL with FKL = KL(p_phi || p_psi) and
  RKL = KL(p_psi || p_phi). beta = 0 is FKL, beta = 1 is RKL; beta may be
  negative.

  Args:
    teacher_logits: [..., C], after guidance.
    auxiliary_logits: [..., C].
    beta: weight of RKL.

  Returns:
    float32 [..., C] without gradient; each row sums to zero.
  """
  chex.assert_equal_shape([teacher_logits, auxiliary_logits])
  teacher = teacher_logits.astype(jnp.float32)
  auxiliary = auxiliary_logits.astype(jnp.float32)
  teacher, auxiliary = jax.lax.stop_gradient((teacher, auxiliary))
  if not parallel.is_split():
    return _logit_gradient(teacher, auxiliary, beta, None)
  return parallel.split(
    lambda phi, psi: _logit_gradient(phi, psi, beta, parallel.TENSOR),
    (teacher, auxiliary),
    vocabulary=(teacher.ndim - 1,) * 2,
    batched=(True, True),
    fill=_NO_CODE,
    returns_vocabulary=True,
  )


def _logit_gradient(
  teacher: jax.Array, auxiliary: jax.Array, beta: float, axis: str | None
) -> jax.Array:
  """Gradient from float32 logits whose codes are sharded over `axis`."""
  log_phi = parallel.log_softmax(teacher, axis)
  log_psi = parallel.log_softmax(auxiliary, axis)
  p_psi = jnp.exp(log_psi)
  gradient = (1 - beta) * (p_psi - jnp.exp(log_phi))
  if beta != 0:
    log_ratio = log_psi - log_phi
    mean = parallel.total(p_psi * log_ratio, axis)
    gradient += beta * p_psi * (log_ratio - mean)
  return jax.lax.stop_gradient(gradient)


def entry_weights(mask: jax.Array, *, reduction: str = 'sum') -> jax.Array:
  """Weight of each entry's gradient.

  Args:
    mask: bool [B, L, G], entries masked in x~_t; others get no gradient.
    reduction: 'sum' over entries, then the batch mean (released code), or
      'masked_mean' over each sample's masked entries (the paper's Eq. 5).

  Returns:
    float32 [B, L, G].

  Raises:
    ValueError: for an unknown reduction.
  """
  if reduction not in REDUCTIONS:
    raise ValueError(
      f'reduction {reduction!r} is unknown; choose one of {REDUCTIONS}'
    )
  count = jnp.maximum(mask.sum((1, 2), keepdims=True), 1)
  divisor = count if reduction == 'masked_mean' else 1
  return mask / (len(mask) * divisor)


def injected(
  gradient: jax.Array, weight: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Gradient of the loss with respect to the student's logits z.

  The loss is sum(weight * g * z) with constant g. Entries are independent, so
  they may be processed in chunks.

  Args:
    gradient: g [B, L, G, C] from `logit_gradient`.
    weight: [B, L, G] from `entry_weights`.

  Returns:
    The gradient [B, L, G, C], and sum(g^2) and mean |g| of each entry
    [B, L, G] for `dimo_metrics`.
  """
  chex.assert_equal_shape_prefix([gradient, weight], 3)
  weight = weight[..., None]
  # `where`, not just a product: entries of weight 0 may be infinite.
  gradient = jnp.where(weight > 0, gradient, 0.0)
  return weight * gradient, (gradient**2).sum(-1), jnp.abs(gradient).mean(-1)


def dimo_metrics(
  squares: jax.Array, sizes: jax.Array, weight: jax.Array
) -> dict[str, jax.Array]:
  """Metrics from what `injected` returned; all arguments are [B, L, G].

  `dimo/loss` is the official 0.5 sum(g^2) / B, `dimo/discrepancy` the mean |g|
  over masked entries.
  """
  return {
    'dimo/loss': 0.5 * (weight * squares).sum(),
    'dimo/discrepancy': sizes.sum() / (weight > 0).sum(),
  }


def masked_cross_entropy(
  logits: jax.Array,
  tokens: jax.Array,
  mask: jax.Array,
  *,
  label_smoothing: float = 0.0,
  unmasked_weight: float = 0.0,
) -> jax.Array:
  """Mean cross entropy over the masked entries of the whole batch.

  Used for the auxiliary model (official code: smoothing 0.1 over all C
  classes) and for the teachers, whose unmasked entries may count too.

  Args:
    logits: [B, L, G, C].
    tokens: int [B, L, G], targets.
    mask: bool [B, L, G], entries with weight 1.
    label_smoothing: in [0, 1).
    unmasked_weight: weight of the other entries.

  Returns:
    float32 scalar in nats, the weighted mean.
  """
  loss = cross_entropy(logits, tokens, label_smoothing=label_smoothing)
  return masked_mean(loss, mask, unmasked_weight=unmasked_weight)


def cross_entropy(
  logits: jax.Array, tokens: jax.Array, *, label_smoothing: float = 0.0
) -> jax.Array:
  """Cross entropy of each entry.

  Args:
    logits: [B, L, G, C].
    tokens: int [B, L, G], targets.
    label_smoothing: in [0, 1).

  Returns:
    float32 [B, L, G].
  """
  log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
  # A product with one-hot targets, because the gradient of a gather is a
  # scatter, which on CPU costs as much as a small network's forward pass.
  target = (log_p * jax.nn.one_hot(tokens, log_p.shape[-1])).sum(-1)
  return -(1 - label_smoothing) * target - label_smoothing * log_p.mean(-1)


def masked_mean(
  loss: jax.Array, mask: jax.Array, *, unmasked_weight: float = 0.0
) -> jax.Array:
  """Weighted mean of losses [B, L, G]; see `masked_cross_entropy`."""
  chex.assert_equal_shape([loss, mask])
  weight = jnp.where(mask, 1.0, unmasked_weight)
  # `where`, not just a product: losses of weight 0 may be infinite.
  loss = jnp.where(weight > 0, weight * loss, 0.0)
  return loss.sum() / jnp.maximum(weight.sum(), 1e-8)
