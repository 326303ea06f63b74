"""REINFORCE in the GAN and the reward term, and rewards at low temperatures."""

import functools
import itertools
from unittest import mock

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from softdimo_jax import families
from softdimo_jax.method import adversarial, masking, sampling
from softdimo_jax.method.reinforce import ESTIMATORS
from softdimo_jax.training.distill.reward_term import RewardTerm
from tests.training.plain_distillation import (
  CODES,
  LATE,
  LENGTH,
  MODELS,
  Setting,
  quick_jit,
)

TEMPERATURE = 0.7


def draws(batch):
  """Every combination of one code per sample, int [N, B]."""
  return np.array(list(itertools.product(range(CODES), repeat=batch)))


def given(tokens):
  """Replaces the draws of tokens."""
  return mock.patch.object(sampling, 'sample_tokens', lambda *_, **__: tokens)


def test_reinforced_gan_is_unbiased():
  """Enumerated: the gradient of the expected loss of one visible entry."""
  s = Setting(
    'maskgit',
    **{'gan.relaxation': 'reinforce', 'gan.temperature': TEMPERATURE},
  )
  term, heads = s.distiller.gan_term, s.start().discriminator.params
  rng = np.random.default_rng(0)
  batch = 2
  mask = np.ones(
    (
      batch,
      LENGTH,
      1,
    ),
    bool,
  )
  mask[:, 1] = False
  logits = jnp.asarray(rng.normal(size=(batch, LENGTH, 1, CODES + 1)), 'f4')
  data = {k: v[:batch] for k, v in s.batch.items()}
  everywhere = lambda codes: jnp.tile(codes[:, None, None], (1, LENGTH, 1))

  def gradient(codes):
    constant = lambda *_: jnp.asarray(mask)
    with (
      given(everywhere(codes)),
      mock.patch.object(masking, 'exact_mask', constant),
    ):
      key, late = jax.random.key(0), jnp.int32(LATE)
      return term.gradients(heads, s.teacher, logits, data, key, late)[0]

  def losses(code):
    masked = jnp.where(mask, CODES, code)
    hidden = s.family.backbone(
      s.teacher, s.family.embed(s.teacher, masked), data['label']
    ).hidden
    score = term.heads.apply({'params': heads}, hidden, jnp.zeros(batch))
    return adversarial.generator_losses(score)

  @quick_jit
  def compared(codes):
    p = jax.nn.softmax(logits[:, 1, 0, :CODES] / TEMPERATURE)
    weight = p[np.arange(batch), codes].prod(-1)
    mean = jnp.einsum('n,n...->...', weight, jax.vmap(gradient)(codes))
    table = jax.vmap(losses)(jnp.arange(CODES)).T  # [B, V]

    def expected_loss(z):
      p = jax.nn.softmax(z[:, 1, 0, :CODES] / TEMPERATURE)
      return 5.0 * (p * table).sum(-1).mean()

    return mean, jax.grad(expected_loss)(logits)

  mean, exact = compared(draws(batch))
  assert np.abs(exact).max() > 1e-3
  np.testing.assert_allclose(mean, exact, atol=1e-4 * np.abs(exact).max())


@functools.cache
def family():
  """With a decoder that runs; the one of the other tests is never called."""
  sizes = ml_collections.ConfigDict(MODELS['maskgit'])
  sizes.tokenizer.num_norm_groups = 8
  return families.build(sizes)


class Redness:
  """A reward of the first channel; any function of the image would do."""

  def score(self, params, images, prompt_ids):
    del prompt_ids
    weight = jnp.linspace(-1, 2, images[0, ..., 0].size)
    return params * jnp.square(images[..., 0]).reshape(len(images), -1) @ weight


def reward_term(**changes):
  config = ml_collections.ConfigDict(
    {
      'temperature': TEMPERATURE,
      'reward': {
        'weight': 3.0,
        'relaxation': 'soft',
        'temperature': None,
        'micro_batch': 0,
        'terms': {'redness': 2.0},
      },
    },
    type_safe=False,
  )
  config.update_from_flattened_dict(changes)
  return RewardTerm.create(family(), config, {'redness': Redness()})


@pytest.fixture(scope='module')
def decoder():
  """Parameters of the decoder."""
  rng = np.random.default_rng(1)
  shapes = jax.eval_shape(family().init_decoder, jax.random.key(0))
  return jax.tree.map(
    lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), x.dtype), shapes
  )


def reward_logits(batch):
  """Only the first entry of each sample is undecided: float [B, L, 1, V]."""
  rng = np.random.default_rng(0)
  sure = 1e4 * np.eye(CODES)[rng.integers(CODES, size=(batch, LENGTH, 1))]
  sure[:, 0] = rng.normal(size=(batch, 1, CODES))
  return jnp.asarray(sure, jnp.float32)


def test_reinforced_reward_is_unbiased(decoder):
  term, batch = reward_term(**{'reward.relaxation': 'reinforce'}), 2
  logits, key = reward_logits(batch), jax.random.key(0)
  data = {'prompt_ids': jnp.zeros((batch, 1), jnp.int32)}
  tokens = lambda codes: logits.argmax(-1).at[:, 0, 0].set(codes)

  def gradient(codes):
    with given(tokens(codes)):
      return term.gradient(decoder, {'redness': 1.0}, logits, data, key)[0]

  def rewards(code):
    images = term.family.decode(decoder, tokens(code))
    return 2 * Redness().score(1.0, jnp.clip(images, 0, 1), None)

  @quick_jit
  def compared(codes):
    p = jax.nn.softmax(logits[:, 0, 0] / TEMPERATURE)
    weight = p[np.arange(batch), codes].prod(-1)
    mean = jnp.einsum('n,n...->...', weight, jax.lax.map(gradient, codes))
    table = jax.vmap(rewards)(jnp.arange(CODES)).T

    def loss(z):
      p = jax.nn.softmax(z[:, 0, 0] / TEMPERATURE)
      return -3.0 * (p * table).sum(-1).mean()

    return mean, jax.grad(loss)(logits)

  mean, exact = compared(draws(batch))
  assert np.abs(exact).max() > 1e-2
  np.testing.assert_allclose(mean, exact, atol=1e-4 * np.abs(exact).max())


def test_a_low_temperature_makes_soft_rewards_hard(decoder):
  """At T -> 0; Gumbel's draws ignore the temperature."""
  data = {'prompt_ids': jnp.zeros((2, 1), jnp.int32)}
  totals = {}
  for relaxation in set(ESTIMATORS) - {'gumbel'}:
    changes = {'reward.relaxation': relaxation, 'temperature': 1e-4}
    term = reward_term(**changes)
    _, metrics = quick_jit(term.gradient)(
      decoder, {'redness': 1.0}, reward_logits(2), data, jax.random.key(0)
    )
    totals[relaxation] = metrics['reward/total']
  values = list(totals.values())
  np.testing.assert_allclose(values, values[0], rtol=1e-4)
