"""Teacher stage: masked token prediction with the official losses.

The condition is dropped at random. What else is official:

    teacher           schedule  masks        weight of unmasked  smoothing
    MaskGit, MaskBit  arccos    independent  1                   .1
    MaskGen           arccos    exact count  .1                  .1
    Meissonic         cosine    exact count  0                   0

The loss is the weighted mean over the whole batch: sum(w ce) / sum(w), where w
is 1 for masked entries (MaskGen's `MLMLoss`).
"""

from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from softdimo_jax.families.family import Family
from softdimo_jax.method import divergence, masking
from softdimo_jax.networks.generators.condition import Condition
from softdimo_jax.training.accumulation import Weighted
from softdimo_jax.training.supervised import WEIGHT, SupervisedTrainer
from softdimo_jax.types import Batch, Params


def trainer(
  family: Family, config: ml_collections.ConfigDict
) -> SupervisedTrainer:
  """Step of the teacher stage on `tokens` [B, L, G] and their condition.

  `frozen` is the null condition; None means the null class.

  Args:
    family: generator and vocabulary.
    config: the stage: steps, optimizer, ema_decay, mask_schedule,
      exact_count, condition_dropout, label_smoothing, unmasked_weight.

  Returns:
    The trainer.
  """

  def loss(
    params: Params, batch: Batch, null: Condition | None, key: jax.Array
  ) -> tuple[jax.Array, dict[str, Any]]:
    tokens = batch['tokens']
    corrupt_key, drop_key, dropout_key = jax.random.split(key, 3)
    corrupt = _exactly if config.exact_count else _independently
    masked, mask = corrupt(
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
      mask,
      label_smoothing=config.label_smoothing,
      unmasked_weight=config.unmasked_weight,
    )
    weight = jnp.where(mask, 1.0, config.unmasked_weight).sum()
    right, masked = ((logits.argmax(-1) == tokens) & mask).sum(), mask.sum()
    accuracy = right / jnp.maximum(masked, 1)
    return cross_entropy, {
      'cross_entropy': Weighted(cross_entropy, weight),
      'masked_accuracy': Weighted(accuracy, masked.astype(jnp.float32)),
      WEIGHT: weight,
    }

  return SupervisedTrainer.create(loss, config)


def _exactly(
  key: jax.Array, tokens: jax.Array, mask_id: int, schedule: str
) -> tuple[jax.Array, jax.Array]:
  """(masked tokens, mask): max(1, round(rate L G)) entries per sample."""
  masked, mask, _ = masking.remask(key, tokens, mask_id, schedule=schedule)
  return masked, mask


def _independently(
  key: jax.Array, tokens: jax.Array, mask_id: int, schedule: str
) -> tuple[jax.Array, jax.Array]:
  """(masked tokens, mask): every entry is masked with probability `rate`."""
  time_key, mask_key = jax.random.split(key)
  time = jax.random.uniform(time_key, (tokens.shape[0], 1, 1))
  draws = jax.random.uniform(mask_key, tokens.shape)
  mask = draws < masking.mask_rate(schedule, time)
  return jnp.where(mask, mask_id, tokens), mask
