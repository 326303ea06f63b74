"""Text to image with TA-TiTok's decoder, which also reads the text."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from softdimo_jax import families
from softdimo_jax.generation.sampler import Sampler
from softdimo_jax.generation.tokens import decode_tokens, multi_step_tokens
from softdimo_jax.method import sampling
from softdimo_jax.networks.generators.condition import with_null
from softdimo_jax.training.distill.step import Distiller
from softdimo_jax.training.state import Frozen, with_dtype
from tests.training.plain_distillation import (
  STAGE,
  assert_close,
  first_gradient,
  quick_jit,
)

BATCH, LENGTH, CODES, SIZE = 4, 6, 8, 8
TOWER = {'depth': 2, 'num_heads': 2, 'mlp_width': 8, 'projection_width': 8}
TOKENIZERS = {
  'tatitok': {
    'name': 'tatitok', 'resolution': SIZE, 'encoder_patch': 4,
    'decoder_patch': 2, 'length': LENGTH, 'encoder_width': 8,
    'encoder_depth': 1, 'encoder_heads': 2, 'decoder_width': 8,
    'decoder_depth': 1, 'decoder_heads': 2, 'codebook_size': CODES,
    'embedding_dim': 4, 'text_width': 8, 'text_length': 5,
  },
  'diffusers_vq': {
    'name': 'diffusers_vq', 'level_channels': (4, 4), 'num_res_blocks': 1,
    'latent_channels': 4, 'codebook_size': CODES, 'embedding_dim': 4,
    'num_norm_groups': 2, 'grid': (2, 4),
  },
}  # fmt: skip
GENERATORS = {
  'maskgen': {
    'name': 'maskgen', 'num_classes': 0, 'length': LENGTH, 'depth': 2,
    'micro_width': 4,
  },
  'meissonic': {
    'name': 'meissonic', 'grid': (2, 4), 'joint_depth': 1, 'single_depth': 1,
    'rope_axes': (0, 2, 2), 'spare_rows': 1,
  },
}  # fmt: skip
MICRO = {'maskgen': (6.5,), 'meissonic': (8.0, 8.0, 0.0, 0.0, 6.0)}
PARTNERS = {'maskgen': 'tatitok', 'meissonic': 'diffusers_vq'}


def configuration(name, **changes):
  config = ml_collections.ConfigDict({
    'generator': {
      'vocab_size': CODES, 'width': 8, 'num_heads': 2, 'mlp_width': 16,
      'text_width': 8, **GENERATORS[name],
    },
    'micro': MICRO[name],
    'tokenizer': TOKENIZERS[PARTNERS[name]],
    'text': {'vocab_size': 9, 'length': 5, 'width': 8, **TOWER},
  })  # fmt: skip
  config.update_from_flattened_dict(changes)
  return config


class Networks:
  """A family and weights drawn at random."""

  def __init__(self, name, **changes):
    self.family = families.build(configuration(name, **changes))
    self.params, self.auxiliary, self.tokenizer = map(
      self._draw,
      range(3),
      (self.family.init, self.family.init, self.family.init_tokenizer),
    )
    ids = np.random.default_rng(0).integers(1, 8, (BATCH + 1, 5))
    ids[:, 3] = 8
    tower = self._draw(3, lambda key: self.family.text.init(key, ids)['params'])
    features = jax.jit(self.family.encode_text)(tower, ids)
    take = lambda rows: jax.tree.map(lambda x: x[rows], features)
    self.text, self.null = take(slice(BATCH)), take(slice(BATCH, None))
    self.prompt_ids = ids[:BATCH]

  @staticmethod
  def _draw(seed, init):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
      lambda leaf: jnp.array(0.4 * rng.normal(size=leaf.shape), leaf.dtype),
      jax.eval_shape(init, jax.random.key(0)),
    )

  def tokens(self, seed=0, codes=CODES):
    shape = (BATCH, *self.family.token_shape)
    return np.random.default_rng(seed).integers(0, codes, shape)


@functools.cache
def networks(name, **changes):
  return Networks(name, **changes)


class Brightness:
  """A reward for brightness, weighted by the first prompt id."""

  def score(self, params, images, captions):
    return params * (images * captions[:, :1, None, None]).mean((1, 2, 3))


def distiller(n, **changes):
  config = ml_collections.ConfigDict(STAGE)
  config.batch_size = BATCH
  config.gan.weight = 0.0
  config.reward = {
    'weight': 2.0, 'relaxation': 'soft', 'temperature': 1.0, 'micro_batch': 0,
    'terms': {'brightness': 1.0},
  }  # fmt: skip
  config.update_from_flattened_dict(changes)
  return Distiller.create(n.family, config, {'brightness': Brightness()})


@functools.cache
def stepped(name, **changes):
  """State and metrics after one step of the default run with some changes."""
  model = {k: v for k, v in changes.items() if k.startswith('generator.')}
  n = networks(name, **model)
  d = distiller(n, **{k: v for k, v in changes.items() if k not in model})
  state = d.init(jax.random.key(0), n.params, n.auxiliary)
  frozen = Frozen(
    teacher=n.params,
    null=n.null,
    tokenizer=n.family.decoder_params(n.tokenizer),
    rewards={'brightness': jnp.float32(1.0)},
  )
  batch = {'text': n.text, 'prompt_ids': n.prompt_ids}
  return quick_jit(d.step)(state, batch, frozen, jax.random.key(1))


def test_tokens_of_one_dimension_make_images():
  n = networks('maskgen')
  assert n.family.image_shape == (SIZE, SIZE, 3)
  assert n.family.token_shape == (LENGTH, 1)
  images = decode_tokens(n.family, n.tokenizer, n.tokens(), n.text)
  assert images.shape == (BATCH, SIZE, SIZE, 3)
  other = n.text.replace(final=n.text.final[::-1])
  others = decode_tokens(n.family, n.tokenizer, n.tokens(), other)
  assert np.abs(images - others).max() > 1e-3
  one_hot = jax.nn.one_hot(n.tokens(), CODES)
  soft = n.family.decode_soft(n.tokenizer, one_hot, n.text)
  np.testing.assert_allclose(np.clip(soft, 0, 1), images, atol=1e-5)


def test_the_decoder_requires_the_text():
  n = networks('maskgen')
  with pytest.raises(ValueError, match='reads text features'):
    n.family.decode(n.tokenizer, n.tokens())
  assert networks('meissonic').text.final is None


def test_expected_embeddings_are_normed_after_they_are_mixed():
  n = networks('maskgen', **{'tokenizer.l2_normalized': True})
  uniform = jnp.full((BATCH, LENGTH, 1, CODES), 1 / CODES)
  soft = n.family.decode_soft(n.tokenizer, uniform, n.text)
  mean = n.tokenizer['codebook'].mean(0)
  rows = jnp.broadcast_to(7.0 * mean, (BATCH, LENGTH, 4))
  expected = n.family.tokenizer.apply(
    {'params': n.tokenizer}, rows, n.text.final, method='decode_embeddings'
  )
  np.testing.assert_allclose(soft, expected, atol=1e-5)


@pytest.mark.parametrize('name', GENERATORS)
def test_distillation_needs_no_encoder(name):
  n = networks(name)
  decoder = n.family.decoder_params(n.tokenizer)
  assert 'encoder' in n.tokenizer and 'encoder' not in decoder
  np.testing.assert_array_equal(
    n.family.decode(n.tokenizer, n.tokens(), n.text),
    n.family.decode(decoder, n.tokens(), n.text),
  )


@pytest.mark.parametrize('name', GENERATORS)
def test_samplers_give_the_decoder_the_text_of_every_image(name):
  n = networks(name)
  plan = {'name': name, 'choice_temperature': 1.0}
  options = ml_collections.ConfigDict(
    {'steps': 3, 'guidance_scale': 2.0, 'plan': plan}
  )
  run = lambda params, keys, text: multi_step_tokens(
    n.family, params, keys, text, options=options, null=n.null
  )
  sampler = Sampler(run, n.family, 3)  # the last batch is padded
  text = jax.device_get(n.text)
  tokens, images = sampler(
    n.params, n.tokenizer, sampling.image_keys(0, BATCH), text
  )
  assert tokens.max() < CODES
  expected = decode_tokens(n.family, n.tokenizer, tokens, n.text)
  np.testing.assert_allclose(images, expected, atol=1e-5)


@pytest.mark.parametrize(
  ('name', 'changes'),
  [
    ('maskgen', {'divergence.chunk': 2, 'reward.micro_batch': 2}),
    pytest.param(
      'meissonic',
      {'divergence.chunk': 4, 'reward.micro_batch': 1},
      marks=pytest.mark.slow,
    ),
    pytest.param(
      'meissonic',
      {'divergence.chunk': 1, 'auxiliary.fresh_sample': True},
      marks=pytest.mark.slow,
    ),
  ],
)
def test_chunks_and_micro_batches_change_memory_only(name, changes):
  fresh = {k: v for k, v in changes.items() if 'fresh' in k}
  state, metrics = stepped(name, **fresh)
  other_state, other_metrics = stepped(name, **changes)
  for metric, value in metrics.items():
    np.testing.assert_allclose(
      other_metrics[metric], value, rtol=2e-5, atol=1e-7, err_msg=metric
    )
  assert metrics['reward/gradient_ratio'] > 0
  for role in ('model', 'auxiliary'):
    assert_close(
      *(first_gradient(getattr(s, role)) for s in (other_state, state))
    )


def test_frozen_matrices_may_take_half_the_memory():
  n = networks('maskgen')
  half = with_dtype({'r': n.tokenizer, 'scale': jnp.float32(3)}, 'bfloat16')
  assert half['scale'].dtype == half['r']['decoder']['norm_in']['scale'].dtype
  assert half['r']['codebook'].dtype == jnp.bfloat16
  images = n.family.decode(half['r'], n.tokens(), n.text)
  expected = n.family.decode(n.tokenizer, n.tokens(), n.text)
  assert images.dtype == jnp.float32
  scale = np.abs(expected).max()
  np.testing.assert_allclose(images, expected, rtol=0, atol=0.05 * scale)


def test_time_is_zero_or_a_thousand_times_the_masked_share():
  changes = {'generator.timestep_mode': 'ratio'}
  zero, ratio = networks('meissonic'), networks('meissonic', **changes)
  tokens = n_masked(zero, 2)

  def logits(n):
    return quick_jit(n.family.forward)(n.params, tokens, n.text).logits

  at = jnp.full(BATCH, 1000 * 2 / 8)

  @quick_jit
  def direct(time):
    embeddings = ratio.family.embed(ratio.params, tokens)
    text = ratio.text.replace(time=time)
    return ratio.family.backbone(ratio.params, embeddings, text).logits

  np.testing.assert_allclose(logits(ratio), direct(at), atol=1e-4)
  np.testing.assert_allclose(logits(zero), direct(0 * at), atol=1e-4)
  assert np.abs(direct(at) - direct(0 * at)).max() > 1e-3


@pytest.mark.parametrize('mode', ['zero', 'ratio'])
def test_the_official_sampler_sets_the_time(mode):
  n = networks('meissonic', **{'generator.timestep_mode': mode})
  tokens, null = n_masked(n, 2), n.null
  guided = quick_jit(
    lambda time: n.family.guided_logits(
      n.params, tokens, n.text, 2.0, null=null, time=time
    )
  )

  @quick_jit
  def direct(time):
    pair = with_null(n.text, null).replace(time=jnp.full(2 * BATCH, time))
    embeddings = n.family.embed(n.params, jnp.concatenate([tokens, tokens]))
    logits = n.family.backbone(n.params, embeddings, pair).logits
    return 2 * logits[:BATCH] - logits[BATCH:]

  np.testing.assert_allclose(guided(3.0), direct(3.0), atol=1e-3)
  assert np.abs(direct(3.0) - direct(0.0)).max() > 1e-2


def test_only_the_last_step_of_the_official_sampler_is_at_time_zero():
  n = networks('meissonic')

  @functools.partial(jax.jit, static_argnums=(0, 1))
  def tokens(steps, official):
    plan = {'name': 'meissonic', 'official_times': official}
    options = {'steps': steps, 'guidance_scale': 2.0, 'plan': plan}
    return multi_step_tokens(
      *(n.family, n.params, sampling.image_keys(0, BATCH), n.text),
      **{'options': ml_collections.ConfigDict(options), 'null': n.null},
    )

  np.testing.assert_array_equal(tokens(1, True), tokens(1, False))
  assert (tokens(4, True) != tokens(4, False)).any()


@pytest.mark.slow
def test_steps_pass_the_time():
  _, zero = stepped('meissonic')
  _, ratio = stepped('meissonic', **{'generator.timestep_mode': 'ratio'})
  assert all(np.isfinite(value) for value in ratio.values())
  assert ratio['dimo/loss'] != zero['dimo/loss']


def n_masked(n, count):
  tokens = n.tokens()
  tokens[:, :count] = n.family.mask_id
  return tokens


@pytest.mark.parametrize(
  ('name', 'changes', 'message'),
  [
    ('maskgen', {'generator.length': 4}, 'has 6 positions, not 4'),
    ('maskgen', {'tokenizer.text_width': 4}, 'tokenizer reads text of width 4'),
    ('maskgen', {'tokenizer.text_length': 7}, 'text of length 7'),
    ('maskgen', {'text.projection_width': 6}, 'pooled text of width 8'),
    ('meissonic', {'tokenizer.grid': (4, 2)}, 'a grid of 2 x 4'),
    ('meissonic', {'tokenizer.grid': (2, 3)}, 'do not form a grid'),
    ('meissonic', {'tokenizer.grid': None}, 'do not form a square'),
    ('meissonic', {'generator.timestep_mode': 'one'}, "'zero', 'ratio'"),
    ('meissonic', {'generator.num_heads': 3}, 'not add up to the width 8'),
  ],
)
def test_parts_that_do_not_fit_are_refused(name, changes, message):
  config = configuration(name)
  with config.unlocked(), config.ignore_type():
    config.update_from_flattened_dict(changes)
  with pytest.raises(ValueError, match=message):
    families.build(config)


def test_classes_have_no_text_for_a_decoder():
  config = configuration('maskgen')
  config.generator = {
    'name': 'maskgit', 'vocab_size': CODES, 'length': LENGTH, 'width': 8,
    'depth': 1, 'num_heads': 2, 'mlp_width': 8,
  }  # fmt: skip
  with pytest.raises(ValueError, match='reads text'):
    families.build(config)
