"""ImageReward's network: parity, and properties that fixtures do not cover."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.networks.rewards.blip import (
  BLIPImageTower,
  BLIPScorer,
  BLIPTextEncoder,
)
from softdimo_jax.networks.rewards.head import LinearHead
from tests.golden import parity
from tests.networks import checks

SIZES = {'depth': 2, 'num_heads': 2, 'mlp_width': 16}
TINY = BLIPScorer(
  BLIPImageTower(resolution=6, patch=3, width=8, **SIZES),
  BLIPTextEncoder(vocab_size=9, length=4, width=12, **SIZES),
  head_widths=(6, 1),
)
IMAGES = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)
IDS = jnp.array([[7, 1, 8, 0], [7, 3, 5, 8]])
MASK = IDS > 0


@pytest.fixture(scope='module')
def variables():
  return jax.jit(TINY.init)(jax.random.key(0), IMAGES, IDS, MASK)


@pytest.fixture(scope='module')
def scores(variables):
  """Scores of images, ids and mask."""
  return jax.jit(lambda *inputs: TINY.apply(variables, *inputs).score)


@pytest.mark.parametrize('name', ['blip_imagereward', 'aesthetic_head'])
def test_parity(name):
  parity.check(name)


def test_the_defaults_are_those_of_version_1():
  # The official count without BLIP's two projections, which no score uses.
  projections = (1024 + 1) * 256 + (768 + 1) * 256
  count = checks.count(BLIPScorer(), 224, 35)
  assert count == 446_665_953 - projections


def test_a_score_belongs_to_its_pair_alone(scores):
  both = scores(IMAGES, IDS, MASK)
  assert both.shape == (2,)
  assert both.dtype == jnp.float32
  swapped = scores(IMAGES[::-1], IDS[::-1], MASK[::-1])
  np.testing.assert_allclose(swapped[::-1], both, rtol=1e-5)
  assert np.abs(scores(IMAGES[::-1], IDS, MASK) - both).min() > 1e-4


def test_padding_is_not_read(scores):
  padded = scores(IMAGES, IDS, MASK)
  other = scores(IMAGES, jnp.where(MASK, IDS, 4), MASK)
  np.testing.assert_array_equal(padded, other)
  assert np.abs(scores(IMAGES, IDS, None) - padded)[0] > 1e-5


def test_scores_are_standardised(variables):
  output = jax.eval_shape(TINY.apply, variables, IMAGES, IDS, MASK)
  assert output.image.shape == (2, 5, 8)
  assert output.text.shape == (2, 2, 4, 12)
  run = lambda **options: jax.jit(
    lambda: TINY.clone(**options).apply(variables, IMAGES, IDS, MASK)
  )()
  output = run(mean=2.0, std=4.0)
  np.testing.assert_allclose(output.score, (output.raw - 2) / 4, rtol=1e-6)


def test_gradients_with_respect_to_images(scores):
  """They agree with finite differences."""
  score = lambda images: scores(images, IDS, MASK)
  slope = jax.jit(jax.grad(lambda images: score(images).sum()))(IMAGES)
  direction = np.random.default_rng(1).normal(size=IMAGES.shape)
  step = jnp.array(1e-2 * direction, jnp.float32)
  change = score(IMAGES + step) - score(IMAGES - step)
  predicted = 2 * (slope * step).sum((1, 2, 3))
  np.testing.assert_allclose(change, predicted, rtol=0.02, atol=2e-5)


def test_memory_options_change_no_value(variables):
  def gradient(module):
    loss = lambda x: module.apply(variables, x, IDS, MASK).score.sum()
    return jax.jit(jax.grad(loss))(IMAGES)

  options = {'remat': 'full', 'unroll': 2}
  module = TINY.clone(
    image=TINY.image.clone(**options), text=TINY.text.clone(**options)
  )
  np.testing.assert_allclose(gradient(module), gradient(TINY), atol=1e-6)


def test_bfloat16_keeps_float32_parameters_and_scores(variables, scores):
  module = TINY.clone(
    image=TINY.image.clone(dtype=jnp.bfloat16),
    text=TINY.text.clone(dtype=jnp.bfloat16),
  )
  shapes = jax.eval_shape(module.init, jax.random.key(0), IMAGES, IDS, MASK)
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(shapes))
  output = jax.jit(module.apply)(variables, IMAGES, IDS, MASK)
  assert output.image.dtype == output.text.dtype == jnp.bfloat16
  assert output.score.dtype == jnp.float32
  np.testing.assert_allclose(output.score, scores(IMAGES, IDS, MASK), atol=0.1)


@pytest.mark.parametrize(
  ('module', 'shape', 'message'),
  [
    (TINY, (2, 9, 9, 3), r'shape \(2, 9, 9, 3\) are not \[B, 6, 6, 3\]'),
    (TINY, (2, 6, 6, 1), r'shape \(2, 6, 6, 1\) are not \[B, 6, 6, 3\]'),
    (
      TINY.clone(image=TINY.image.clone(patch=7)),
      (2, 6, 6, 3),
      'side of 6 pixels are smaller than a patch of 7',
    ),
    (
      TINY.clone(text=TINY.text.clone(length=3)),
      (2, 6, 6, 3),
      '4 tokens, more than the 3 positions',
    ),
    (
      TINY.clone(head_widths=(6, 2)),
      (2, 6, 6, 3),
      r'must be 1, the widths are \(6, 2\)',
    ),
  ],
)
def test_wrong_sizes_are_refused(module, shape, message):
  images = jax.ShapeDtypeStruct(shape, jnp.float32)
  init = functools.partial(module.init, jax.random.key(0))
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(init, images, IDS)


def test_the_head_is_linear():
  head = LinearHead((5, 3, 1))
  x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
  variables = head.init(jax.random.key(0), x)
  run = lambda x: np.asarray(head.apply(variables, x))
  assert run(x).shape == (4,)
  sums = run(x[:2] + x[2:]) + run(np.zeros((2, 6), np.float32))
  np.testing.assert_allclose(sums, run(x[:2]) + run(x[2:]), atol=1e-5)
