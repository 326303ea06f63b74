import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from softdimo_jax import families
from softdimo_jax.networks.rewards.blip import (
  BLIPImageTower,
  BLIPScorer,
  BLIPTextEncoder,
)
from softdimo_jax.networks.rewards.clip import CLIP, CLIPImageTower
from softdimo_jax.networks.rewards.head import LinearHead
from softdimo_jax.networks.text.clip import CLIPTextTower
from softdimo_jax.ops.preprocess import ImageTransform
from softdimo_jax.rewards import scoring
from softdimo_jax.training.distill.reward_term import RewardTerm

BATCH, SIZE, LENGTH, CODES = 3, 8, 4, 6
TOWER = {'width': 8, 'depth': 1, 'num_heads': 2, 'mlp_width': 8}


@pytest.fixture(scope='module')
def reward():
  """A reward and random parameters."""
  module = CLIP(
    CLIPImageTower(resolution=SIZE, patch=4, projection_width=8, **TOWER),
    CLIPTextTower(vocab_size=9, length=5, projection_width=8, **TOWER),
  )
  params = module.init(
    jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), captions()[:1]
  )['params']
  transform = ImageTransform(size=SIZE)
  return scoring.CLIPReward(module=module, transform=transform), params


def images(seed=0):
  return jax.random.uniform(jax.random.key(seed), (BATCH, SIZE, SIZE, 3))


def captions():
  return jnp.array([[1, 2, 8, 0, 0], [1, 3, 4, 8, 0], [1, 5, 8, 0, 0]])


def test_a_score_belongs_to_its_pair_alone(reward):
  reward, params = reward
  score = reward.score(params, images(), captions())
  assert score.shape == (BATCH,)
  alone = reward.score(params, images()[1:2], captions()[1:2])
  np.testing.assert_allclose(score[1:2], alone, rtol=1e-5)
  gradient = jax.grad(lambda x: reward.score(params, x, captions())[0])(
    images()
  )
  assert np.abs(gradient[0]).max() > 0
  np.testing.assert_array_equal(gradient[1:], 0)


def test_the_learnt_scale_is_optional(reward):
  reward, params = reward
  scaled = scoring.CLIPReward(
    module=reward.module, transform=reward.transform, scaled=True
  )
  score = reward.score(params, images(), captions())
  assert (np.abs(score) <= 1).all()
  np.testing.assert_allclose(
    scaled.score(params, images(), captions()),
    np.exp(params['logit_scale']) * score,
    rtol=1e-5,
  )


def test_image_reward_reads_no_padding():
  module = BLIPScorer(
    BLIPImageTower(resolution=SIZE, patch=4, **TOWER),
    BLIPTextEncoder(vocab_size=9, length=5, **TOWER),
    head_widths=(4, 1),
  )
  params = jax.jit(module.init)(
    jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)), captions()[:1]
  )['params']
  transform = ImageTransform(size=SIZE)
  reward = scoring.ImageReward(module=module, transform=transform)
  run = jax.jit(reward.score)
  wide = jnp.repeat(images(), 2, axis=2)  # which the transform crops
  score = run(params, wide, captions())
  assert score.shape == (BATCH,)
  output = jax.jit(module.apply)(
    {'params': params}, transform(wide), captions(), captions() > 0
  )
  np.testing.assert_allclose(score, output.score, atol=1e-6)
  gradient = jax.jit(jax.grad(lambda x: run(params, x, captions())[0]))(wide)
  assert np.abs(gradient[0]).max() > 0
  np.testing.assert_array_equal(gradient[1:], 0)


def test_aesthetics_are_a_matter_of_the_image_alone():
  image = CLIPImageTower(
    resolution=SIZE, patch=4, projection_width=8, activation='gelu', **TOWER
  )
  head = LinearHead((4, 1))
  transform = ImageTransform(size=SIZE)
  params = {
    'image': image.init(jax.random.key(0), images())['params'],
    'head': head.init(jax.random.key(1), jnp.ones((1, 8)))['params'],
  }
  reward = scoring.AestheticReward(image=image, head=head, transform=transform)
  score = reward.score(params, images(), captions())
  np.testing.assert_array_equal(score, reward.score(params, images(), None))
  output = image.apply({'params': params['image']}, transform(images()))
  features = output.pooled
  # The head reads the direction of the features, not their length.
  unit = features / jnp.linalg.norm(features, axis=-1, keepdims=True)
  expected = head.apply({'params': params['head']}, unit)
  np.testing.assert_allclose(score, expected, atol=1e-6)


class Echo:
  """A reward that is its captions."""

  def score(self, params, images, captions):
    return params * captions[:, 0]


def test_rewards_may_read_captions_of_their_own():
  echo = {'a': Echo(), 'b': Echo()}
  params = {'a': 1.0, 'b': 2.0}
  ones = jnp.ones((BATCH, 1))
  score = lambda captions: scoring.scores(echo, params, images(), captions)
  np.testing.assert_array_equal(score(ones)['b'], [2.0] * BATCH)
  own = score({'a': 5 * ones, 'b': 7 * ones})
  np.testing.assert_array_equal(own['a'], [5.0] * BATCH)
  np.testing.assert_array_equal(own['b'], [14.0] * BATCH)
  with pytest.raises(KeyError):
    score({'a': ones})


def test_total_is_the_weighted_sum_of_what_is_named():
  scores = {'a': jnp.array([1.0, 2.0]), 'b': jnp.array([3.0, 5.0])}
  np.testing.assert_allclose(scoring.total(scores, {'b': 2.0}), [6.0, 10.0])
  np.testing.assert_allclose(
    scoring.total(scores, {'a': -1.0, 'b': 0.5}), [0.5, 0.5]
  )


def test_clip_passes_the_gradient_straight_through():
  x = jnp.array([-0.5, 0.25, 1.5])
  np.testing.assert_allclose(scoring.straight_through_clip(x), [0, 0.25, 1])
  weights = jnp.array([1.0, 2.0, 3.0])
  gradient = jax.grad(
    lambda x: (weights * scoring.straight_through_clip(x)).sum()
  )(x)
  np.testing.assert_array_equal(gradient, weights)


FAMILY = {
  'generator': {
    'name': 'maskgit', 'vocab_size': CODES, 'num_classes': 2, 'length': LENGTH,
    'width': 8, 'depth': 1, 'num_heads': 2, 'mlp_width': 8,
  },
  'tokenizer': {
    'name': 'patch_vq', 'patch': 4, 'hidden': 8, 'codebook_size': CODES,
    'embedding_dim': 3,
  },
}  # fmt: skip


def test_one_hot_logits_are_rewarded_as_their_tokens(reward):
  reward, params = reward
  family = families.build(ml_collections.ConfigDict(FAMILY))
  tokenizer = family.init_tokenizer(jax.random.key(1))
  tokenizer['codebook'] = jax.random.normal(jax.random.key(2), (CODES, 3))
  rng = np.random.default_rng(0)
  tokens = rng.integers(0, CODES, (BATCH, LENGTH, 1))
  hard = family.tokenizer.apply({'params': tokenizer}, tokens, method='decode')
  expected = reward.score(params, jnp.clip(hard, 0, 1), captions()).mean()

  config = {
    'weight': 2.0, 'relaxation': 'soft', 'temperature': 1.0, 'micro_batch': 0
  }  # fmt: skip
  terms = {'clip': 3.0, 'other': 0.0}  # not even computed
  config = ml_collections.ConfigDict({'reward': config | {'terms': terms}})
  reward_term = RewardTerm.create(
    family, config, {'clip': reward, 'other': None}
  )
  run = lambda logits: reward_term.gradient(
    tokenizer, {'clip': params}, logits, {'prompt_ids': captions()}, None
  )
  sharp = 1e4 * jax.nn.one_hot(tokens, CODES + 1)
  _, metrics = run(sharp)
  np.testing.assert_allclose(metrics['reward/clip'], expected, rtol=1e-5)
  np.testing.assert_allclose(metrics['reward/total'], 3 * expected, rtol=1e-5)

  # The gradient ascends, and leaves the mask's logit alone.
  logits = jnp.asarray(rng.normal(size=(BATCH, LENGTH, 1, CODES + 1)))
  gradient, before = run(logits)
  np.testing.assert_array_equal(gradient[..., CODES], 0)
  _, after = run(logits - 0.1 * gradient)
  assert after['reward/total'] > before['reward/total']
