"""A rectified student: one step of the teacher's fixed couplings (ReDi).

ReDi reduces the factorisation error of few steps by training on pairs (x0, x1),
where x1 is a sample that the teacher made from x0. The coupling here is ReDi's
step 1 without step 0, which fine-tunes the teacher to correct random tokens: x0
is the x_init of a distillation, and the teacher's sampler fills in the entries
that x0 masks, so that the random codes of x0 remain in x1. Few of them (a high
`init.mask_ratio`) therefore give better samples. The student is trained as in
step 3: cross entropy of all entries at x0 itself. A distillation may start from
it.
"""

import jax
import jax.numpy as jnp
import ml_collections

from softdimo_jax.families.family import Family
from softdimo_jax.families.start import Start
from softdimo_jax.method import divergence
from softdimo_jax.training.supervised import SupervisedTrainer
from softdimo_jax.types import Batch, Metrics, Params


def trainer(
  family: Family, config: ml_collections.ConfigDict
) -> SupervisedTrainer:
  """Step on `initial` and `tokens` [B, L, G] and their condition.

  It trains what a distillation trains; `frozen` is the whole teacher.

  Args:
    family: generator and vocabulary.
    config: the stage: steps, optimizer, ema_decay, init, label_smoothing.

  Returns:
    The trainer.
  """
  start = Start.in_sampling(config.init)

  def loss(
    params: Params, batch: Batch, teacher: Params, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    embeddings = family.perturbed(teacher, key, batch['initial'], start)
    logits = family.one_step(
      family.merge(params, teacher), embeddings, family.condition(batch), start
    ).logits
    tokens = batch['tokens']
    cross_entropy = divergence.masked_cross_entropy(
      logits,
      tokens,
      jnp.ones(tokens.shape, bool),
      label_smoothing=config.label_smoothing,
    )
    accuracy = (logits.argmax(-1) == tokens).mean()
    return cross_entropy, {
      'cross_entropy': cross_entropy,
      'accuracy': accuracy,
    }

  return SupervisedTrainer.create(loss, config)
