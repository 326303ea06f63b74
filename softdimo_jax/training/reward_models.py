"""Stages that train small rewards, by the methods of CLIP and PickScore.

Both also see images as a generator may make them: decoded expected embeddings,
noise and, as losers of preferences, samples of the teacher. A reward that was
trained only on clean images is hacked within about fifty updates.
"""

import jax
import jax.numpy as jnp
import ml_collections

from softdimo_jax.families.family import Family
from softdimo_jax.networks.call import call
from softdimo_jax.ops import ranking
from softdimo_jax.ops.quantization import l2_normalize
from softdimo_jax.rewards.scoring import CLIPReward, straight_through_clip
from softdimo_jax.training.supervised import SupervisedTrainer
from softdimo_jax.types import Batch, Metrics, Params

# Number of other images whose tokens are mixed into a softened one.
_MIXED = 4


def contrastive_trainer(
  family: Family, reward: CLIPReward, config: ml_collections.ConfigDict
) -> SupervisedTrainer:
  """Image and text towers from right and wrong captions.

  Captions that equal an image's own are not among its negatives.

  Batches hold `tokens` [B, L, G], `prompt_ids` and `wrong_prompt_ids`
  int [B, T]; `frozen` are the tokenizer's parameters.

  Args:
    family: its tokenizer decodes the images.
    reward: module and transform.
    config: the stage: steps, optimizer, ema_decay, noise (largest standard
      deviation), softness (largest share of other images in an image).

  Returns:
    The trainer.
  """

  def loss(
    params: Params, batch: Batch, tokenizer: Params, key: jax.Array
  ) -> tuple[jax.Array, Metrics]:
    share_key, key = jax.random.split(key)
    prompt_ids, wrong_ids = batch['prompt_ids'], batch['wrong_prompt_ids']
    share = _shares(share_key, len(prompt_ids), config.softness)
    images = _pictures(family, tokenizer, batch['tokens'], share, config, key)
    apply = lambda method, x: l2_normalize(
      call(reward.module, params, x, method=method)
    )
    right, wrong = jnp.split(
      apply('text_features', jnp.concatenate([prompt_ids, wrong_ids])), 2
    )
    value, accuracy = ranking.contrastive_loss(
      apply('image_features', reward.transform(images)),
      right,
      wrong,
      jnp.exp(params['logit_scale']),
      _equal(prompt_ids[:, None], prompt_ids),
      _equal(prompt_ids[:, None], wrong_ids),
    )
    return value, {'contrastive': value, 'accuracy': accuracy}

  return SupervisedTrainer.create(loss, config)


def preference_trainer(
  family: Family, reward: CLIPReward, config: ml_collections.ConfigDict
) -> SupervisedTrainer:
  """A score of which of two images fits a prompt better (Bradley-Terry).

  Batches hold `tokens` [B, L, G] of real images, `prompt_ids` int [B, T] and
  `losers` [B, K, L, G]. One more kind of loser is made here: real tokens, some
  of them replaced by another image's. Losers that equal their winner do not
  count. `frozen` are the tokenizer's parameters.

  Args:
    family: its tokenizer decodes the images.
    reward: module and transform.
    config: see `contrastive_trainer`; also corruption (largest share of
      replaced tokens).

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
    # Half of the winners are as soft as their losers: softness alone must not
    # always decide.
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
    winning, losing = jnp.split(scores, 2)
    value, accuracy = ranking.bradley_terry_loss(
      winning, losing, (tokens != loser).any((1, 2))
    )
    return value, {'preference': value, 'accuracy': accuracy}

  return SupervisedTrainer.create(loss, config)


def _equal(first: jax.Array, second: jax.Array) -> jax.Array:
  """Whether captions int [..., T] are equal, bool [...]."""
  return (first == second).all(-1)


def _shares(key: jax.Array, batch: int, softness: float) -> jax.Array:
  """Softness of each image, float [B]; 0 with probability 1/2."""
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

  Tokens of other images at the same position are mixed in, as in the
  distribution of an undecided student.
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
  """Per example one of its losers or its corrupted winner: int [B, L, G]."""
  kind_key, share_key, where_key = jax.random.split(key, 3)
  tokens, losers = batch['tokens'], batch['losers']
  count, kinds = losers.shape[:2]
  share = jax.random.uniform(share_key, (count, 1, 1), maxval=corruption)
  exchanged = jax.random.uniform(where_key, tokens.shape) < share
  corrupted = jnp.where(exchanged, jnp.roll(tokens, 1, axis=0), tokens)
  choice = jax.random.randint(kind_key, (count,), 0, kinds + 1)
  every = jnp.concatenate([losers, corrupted[:, None]], axis=1)
  return every[jnp.arange(count), choice]
