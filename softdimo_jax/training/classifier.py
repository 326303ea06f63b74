"""Classifier stage: feature space and label judge of the evaluation."""

import flax.linen as nn
import jax
import ml_collections
import optax

from softdimo_jax.networks.call import call
from softdimo_jax.training.supervised import SupervisedTrainer
from softdimo_jax.types import Batch, Metrics, Params


def trainer(
  classifier: nn.Module, config: ml_collections.ConfigDict
) -> SupervisedTrainer:
  """Step of a classifier stage on `image` [B, H, W, C] and `label` [B].

  Args:
    classifier: Linen module returning `logits`.
    config: the stage: steps, optimizer, ema_decay, noise (standard deviation
      added to the images), label_smoothing.

  Returns:
    The trainer.
  """

  def loss(
    params: Params, batch: Batch, frozen: None, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    del frozen
    images, labels = batch['image'], batch['label']
    noise_key, dropout_key = jax.random.split(key)
    noise = config.noise * jax.random.normal(noise_key, images.shape)
    logits = call(
      classifier,
      params,
      images + noise,
      deterministic=False,
      rngs={'dropout': dropout_key},
    ).logits
    target = optax.smooth_labels(
      jax.nn.one_hot(labels, logits.shape[-1]), config.label_smoothing
    )
    cross_entropy = optax.softmax_cross_entropy(logits, target).mean()
    accuracy = (logits.argmax(-1) == labels).mean()
    return cross_entropy, {
      'cross_entropy': cross_entropy,
      'accuracy': accuracy,
    }

  return SupervisedTrainer.create(loss, config)
