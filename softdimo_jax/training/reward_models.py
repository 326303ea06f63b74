"""Stages that train rewards of laptop size, as CLIP and PickScore were trained.

Both see images that a generator may make, not only real ones: pictures of
expected embeddings, noise, and as losers of a preference the teacher's own
samples. A reward that knows clean images only is hacked within some fifty
updates.
"""

import jax
import jax.numpy as jnp
import ml_collections

from softdimo_jax.families.family import Family
from softdimo_jax.ops import ranking
from softdimo_jax.ops.quantization import l2_normalize
from softdimo_jax.rewards.scoring import CLIPReward, straight_through_clip
from softdimo_jax.training.supervised import SupervisedTrainer
from softdimo_jax.types import Batch, Metrics, Params

# Images whose tokens a softened picture mixes in.
_MIXED = 4


def contrastive_trainer(
  family: Family, reward: CLIPReward, config: ml_collections.ConfigDict
) -> SupervisedTrainer:
  """Image and text towers from captions, right and wrong ones.

  Batches hold `tokens` [B, L, G], `prompt_ids` and `wrong_prompt_ids`
  int [B, T]; what is frozen are the tokenizer's parameters.

  Args:
    family: whose tokenizer decodes the pictures.
    reward: module and transform.
    config: the stage: steps, optimizer, ema_decay, noise (standard deviation,
      at most), softness (largest share of other images in a picture).

  Returns:
    The trainer.
  """

  def loss(
    params: Params, batch: Batch, tokenizer: Params, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    share_key, key = jax.random.split(key)
    prompt_ids = batch['prompt_ids']
    share = _shares(share_key, len(prompt_ids), config.softness)
    images = _pictures(family, tokenizer, batch['tokens'], share, config, key)
    apply = lambda method, x: l2_normalize(
      reward.module.apply({'params': params}, x, method=method)
    )
    text = apply(
      'text_features', jnp.concatenate([prompt_ids, batch['wrong_prompt_ids']])
    )
    value, accuracy = ranking.contrastive_loss(
      apply('image_features', reward.transform(images)),
      *jnp.split(text, 2),
      jnp.exp(params['logit_scale']),
      (prompt_ids[:, None] == prompt_ids[None]).all(-1),
    )
    return value, {'contrastive': value, 'accuracy': accuracy}

  return SupervisedTrainer.create(loss, config)


def preference_trainer(
  family: Family, reward: CLIPReward, config: ml_collections.ConfigDict
) -> SupervisedTrainer:
  """Which of two pictures is better for a prompt (Bradley-Terry).

  Batches hold `tokens` [B, L, G] of real images, `prompt_ids` int [B, T] and
  `losers` [B, K, L, G]; one more kind of loser, real tokens some of which are
  another image's, is made here. What is frozen are the tokenizer's parameters.

  Args:
    family: whose tokenizer decodes the pictures.
    reward: module and transform.
    config: as of `contrastive_trainer`, and corruption (largest share of
      exchanged tokens).

  Returns:
    The trainer.
  """

  def loss(
    params: Params, batch: Batch, tokenizer: Params, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    keys = jax.random.split(key, 6)
    tokens = batch['tokens']
    loser = _losers(keys[0], batch, config.corruption)
    share = _shares(keys[1], len(tokens), config.softness)
    # Softness is sometimes all that is wrong, and sometimes does not matter.
    alike = jax.random.bernoulli(keys[2], 0.5, share.shape)
    pictures = (
      _pictures(
        family, tokenizer, tokens, jnp.where(alike, share, 0), config, keys[3]
      ),
      _pictures(family, tokenizer, loser, share, config, keys[4]),
    )
    scores = reward.score(
      params,
      jnp.concatenate(pictures),
      jnp.concatenate([batch['prompt_ids']] * 2),
    )
    value, accuracy = ranking.bradley_terry_loss(*jnp.split(scores, 2))
    return value, {'preference': value, 'accuracy': accuracy}

  return SupervisedTrainer.create(loss, config)


def _shares(key: jax.Array, batch: int, softness: float) -> jax.Array:
  """How soft each picture is, [B]; half of them are not."""
  soft_key, share_key = jax.random.split(key)
  share = jax.random.uniform(share_key, (batch,), maxval=softness)
  return jnp.where(jax.random.bernoulli(soft_key, 0.5, (batch,)), share, 0)


def _pictures(
  family: Family,
  tokenizer: Params,
  tokens: jax.Array,
  share: jax.Array,
  config: ml_collections.ConfigDict,
  key: jax.Array,
) -> jax.Array:
  """Images [B, H, W, C] of tokens, softened by `share` [B], with noise.

  What is mixed in are other images' tokens at the same position, as in the
  distribution of a student that has not decided.
  """
  level_key, noise_key = jax.random.split(key)
  hard = jax.nn.one_hot(tokens, family.vocab_size)
  others = [jnp.roll(hard, shift, axis=0) for shift in range(1, _MIXED + 1)]
  share = share[:, None, None, None]
  probabilities = (1 - share) * hard + share * sum(others) / _MIXED
  images = family.decode_soft(tokenizer, probabilities)
  level = jax.random.uniform(
    level_key, (len(tokens), 1, 1, 1), maxval=config.noise
  )
  noise = level * jax.random.normal(noise_key, images.shape)
  return straight_through_clip(images + noise)


def _losers(key: jax.Array, batch: Batch, corruption: float) -> jax.Array:
  """One of the batch's losers, or a corrupted winner: [B, L, G]."""
  kind_key, share_key, where_key = jax.random.split(key, 3)
  tokens, losers = batch['tokens'], batch['losers']
  count, kinds = losers.shape[:2]
  share = jax.random.uniform(share_key, (count, 1, 1), maxval=corruption)
  exchanged = jax.random.uniform(where_key, tokens.shape) < share
  corrupted = jnp.where(exchanged, jnp.roll(tokens, 1, axis=0), tokens)
  choice = jax.random.randint(kind_key, (count,), 0, kinds + 1)
  every = jnp.concatenate([losers, corrupted[:, None]], axis=1)
  return every[jnp.arange(count), choice]
