"""Teacher stage: masked token prediction with the official losses.

MaskGit and MaskBit: every entry is masked independently with rate
arccos(u) / (pi / 2), the condition is dropped at random, and the cross entropy
covers all entries, or with `masked_only` the masked ones.
"""

import jax
import jax.numpy as jnp
import ml_collections

from softdimo_jax.families.family import Family
from softdimo_jax.method import divergence, masking
from softdimo_jax.networks.generators.condition import Condition
from softdimo_jax.training.supervised import SupervisedTrainer
from softdimo_jax.types import Batch, Metrics, Params


def trainer(
  family: Family, config: ml_collections.ConfigDict
) -> SupervisedTrainer:
  """Step of the teacher stage on `tokens` [B, L, G] and their condition.

  `frozen` is the null condition; None means the null class.

  Args:
    family: generator and vocabulary.
    config: the stage: steps, optimizer, ema_decay, mask_schedule,
      condition_dropout, label_smoothing, masked_only.

  Returns:
    The trainer.
  """

  def loss(
    params: Params, batch: Batch, null: Condition | None, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    tokens = batch['tokens']
    corrupt_key, drop_key, dropout_key = jax.random.split(key, 3)
    masked, mask = _corrupt(
      corrupt_key, tokens, family.mask_id, config.mask_schedule
    )
    drop = (
      jax.random.uniform(drop_key, tokens.shape[:1]) < config.condition_dropout
    )
    logits = family.forward(
      params,
      masked,
      family.dropped(family.condition(batch), drop, null),
      dropout_key=dropout_key,
    ).logits
    cross_entropy = divergence.masked_cross_entropy(
      logits,
      tokens,
      mask if config.masked_only else jnp.ones_like(mask),
      label_smoothing=config.label_smoothing,
    )
    right = (logits.argmax(-1) == tokens) & mask
    accuracy = right.sum() / jnp.maximum(mask.sum(), 1)
    return cross_entropy, {
      'cross_entropy': cross_entropy,
      'masked_accuracy': accuracy,
    }

  return SupervisedTrainer.create(loss, config)


def _corrupt(
  key: jax.Array, tokens: jax.Array, mask_id: int, schedule: str
) -> tuple[jax.Array, jax.Array]:
  """Bernoulli masking, as in the teachers' training; counts are not exact."""
  time_key, mask_key = jax.random.split(key)
  time = jax.random.uniform(time_key, (tokens.shape[0], 1, 1))
  draws = jax.random.uniform(mask_key, tokens.shape)
  mask = draws < masking.mask_rate(schedule, time)
  return jnp.where(mask, mask_id, tokens), mask
