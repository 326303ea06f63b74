"""Tokenizer stage: reconstruction plus the quantiser's losses.

The perceptual and patch-GAN terms of MaskBit and Taming are left out: they need
a pre-trained network and matter only at photographic resolution.
"""

import jax
import jax.numpy as jnp
import ml_collections

from softdimo_jax.networks.call import call
from softdimo_jax.networks.tokenizers.interface import ImageTokenizer
from softdimo_jax.ops import quantization
from softdimo_jax.training.supervised import SupervisedTrainer
from softdimo_jax.types import Batch, Metrics, Params

_NO_DISTANCE = 1e-12


def trainer(
  tokenizer: ImageTokenizer, config: ml_collections.ConfigDict
) -> SupervisedTrainer:
  """Step of the tokenizer stage on batches of `image` [B, H, W, C].

  Args:
    tokenizer: Linen module.
    config: the stage: steps, optimizer, ema_decay, commitment_weight,
      entropy_weight (lookup-free only), restart_steps and restart_power
      (codebook only).

  Returns:
    The trainer.
  """

  def loss(
    params: Params, batch: Batch, frozen: None, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    del frozen, key
    output = call(tokenizer, params, batch['image'])
    error = jnp.square(output.images - batch['image']).mean()
    if 'codebook' in params:
      quantiser_loss, metrics = quantization.vq_loss(
        output.latents,
        output.quantized,
        commitment_weight=config.commitment_weight,
      )
    else:
      quantiser_loss, metrics = quantization.lfq_loss(
        output.latents,
        commitment_weight=config.commitment_weight,
        entropy_weight=config.entropy_weight,
      )
    return error + quantiser_loss, metrics | {'reconstruction': error}

  def repair(
    params: Params, batch: Batch, key: jax.Array, step: jax.Array
  ) -> Params:
    if 'codebook' not in params:
      return params
    latents = call(tokenizer, params, batch['image'], method='encode_latents')
    codebook = restart_unused(
      key, params['codebook'], latents, power=config.restart_power
    )
    active = step < config.restart_steps
    codebook = jnp.where(active, codebook, params['codebook'])
    return {**params, 'codebook': codebook}

  return SupervisedTrainer.create(loss, config, repair)


def restart_unused(
  key: jax.Array,
  codebook: jax.Array,
  latents: jax.Array,
  *,
  power: float = 0.0,
) -> jax.Array:
  """Moves unused codes of a batch onto random latents of that batch.

  Otherwise a small codebook collapses: rows that are never nearest get no
  gradient. In the first steps this initialises the codebook.

  Args:
    key: random key.
    codebook: [V, D].
    latents: [B, L, D].
    power: latents are drawn with probability proportional to their distance
      from their code to this power. 0 is uniform; 2, as in k-means++, favours
      rare content in images that are mostly background.

  Returns:
    [V, D].
  """
  latents = latents.reshape(-1, codebook.shape[1])
  nearest = quantization.nearest_code(latents, codebook)
  used = jnp.zeros(codebook.shape[0], bool).at[nearest].set(True)
  if power:
    squared = jnp.square(latents - codebook[nearest]).sum(-1)
    # The floor keeps the logits finite if all latents equal their codes.
    logits = 0.5 * power * jnp.log(jnp.maximum(squared, _NO_DISTANCE))
    choice = jax.random.categorical(key, logits, shape=used.shape)
  else:
    choice = jax.random.randint(key, used.shape, 0, latents.shape[0])
  return jnp.where(used[:, None], codebook, latents[choice])
