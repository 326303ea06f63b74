"""Whole CLIP models: parity, and properties that fixtures do not cover."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.networks.rewards.clip import CLIP, CLIPImageTower
from softdimo_jax.networks.text.clip import CLIPTextTower
from tests.golden import parity
from tests.networks import checks

SIZES = {
  'width': 8,
  'depth': 2,
  'num_heads': 2,
  'mlp_width': 16,
  'projection_width': 5,
}
IMAGE = CLIPImageTower(resolution=6, patch=3, **SIZES)
TINY = CLIP(IMAGE, CLIPTextTower(vocab_size=9, length=4, **SIZES))
IMAGES = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)
IDS = jnp.array([[7, 1, 8, 0], [7, 3, 5, 8]])


@pytest.fixture(scope='module')
def variables():
  return jax.jit(TINY.init)(jax.random.key(0), IMAGES, IDS)


def with_towers(**options):
  return CLIP(TINY.image.clone(**options), TINY.text.clone(**options))


@pytest.mark.parametrize(
  'name',
  [
    'clip_model_gelu',
    'clip_model_quick',
    'openclip_model',
    'openclip_model_quick',
  ],
)
def test_parity(name):
  parity.check(name)


def test_the_defaults_are_those_of_vit_h_14():
  assert checks.count(CLIP(), 224, 77) == 986_109_441


def test_features_are_compared_as_unit_vectors(variables):
  output = jax.jit(TINY.apply)(variables, IMAGES, IDS)
  for ours, method, inputs in (
    (output.image, 'image_features', IMAGES),
    (output.text, 'text_features', IDS),
  ):
    run = jax.jit(functools.partial(TINY.apply, method=method))
    features = run(variables, inputs)
    assert features.shape == (2, 5)
    assert features.dtype == jnp.float32
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    assert np.abs(lengths - 1).min() > 0.01
    np.testing.assert_allclose(ours, features / lengths, atol=1e-6)
  np.testing.assert_allclose(output.scale, 1 / 0.07, rtol=1e-6)
  np.testing.assert_allclose(
    jnp.diagonal(output.logits), output.scale * output.cosines, rtol=1e-5
  )


def test_an_image_is_scored_by_its_own_prompt_alone(variables):
  run = jax.jit(TINY.apply)
  both = run(variables, IMAGES, IDS)
  one = run(variables, IMAGES[1:], IDS[1:])
  np.testing.assert_allclose(one.cosines, both.cosines[1:], atol=1e-6)
  assert one.logits.shape == (1, 1)


# The official convolution reads 6 of 7 pixels.
@pytest.mark.parametrize('side', [6, 7])
def test_patches_are_cut_as_the_official_convolution_cuts_them(variables, side):
  images = np.random.default_rng(1).normal(size=(2, side, side, 3))
  params = variables['params']['image']
  kernel = params['patch_kernel'].reshape(3, 3, 3, 8)
  expected = jax.lax.conv_general_dilated(
    jnp.float32(images),
    kernel,
    (3, 3),
    'VALID',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  ).reshape(2, 4, 8)
  tower = IMAGE.clone(resolution=side)
  tokens = tower.apply({'params': params}, jnp.float32(images), method='embed')
  tokens -= params['pos_emb']
  np.testing.assert_allclose(tokens[:, 1:], expected, atol=1e-5)
  np.testing.assert_allclose(
    tokens[:, 0], jnp.stack([params['class_emb']] * 2), atol=1e-6
  )


def test_gradients_with_respect_to_images(variables):
  """They agree with finite differences, and are finite on constant images."""

  @jax.jit
  def scores(images):
    return TINY.apply(variables, images, IDS).cosines

  gradient = jax.jit(jax.grad(lambda images: scores(images).sum()))
  slope = gradient(IMAGES)
  direction = np.random.default_rng(1).normal(size=IMAGES.shape)
  step = jnp.array(1e-2 * direction, jnp.float32)
  change = scores(IMAGES + step) - scores(IMAGES - step)
  predicted = 2 * (slope * step).sum((1, 2, 3))
  np.testing.assert_allclose(change, predicted, rtol=0.02, atol=2e-5)
  assert np.abs(predicted).min() > 1e-3
  assert np.isfinite(gradient(jnp.zeros_like(IMAGES))).all()


def test_memory_options_change_no_value(variables):
  def gradient(module):
    loss = lambda x: module.apply(variables, x, IDS).cosines.sum()
    return jax.jit(jax.grad(loss))(IMAGES)

  np.testing.assert_allclose(
    gradient(with_towers(remat='full', unroll=2)), gradient(TINY), atol=1e-6
  )


def test_bfloat16_keeps_float32_parameters_and_features(variables):
  module = with_towers(dtype=jnp.bfloat16)
  shapes = jax.eval_shape(module.init, jax.random.key(0), IMAGES, IDS)
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(shapes))
  image_variables = {'params': variables['params']['image']}
  tower = jax.eval_shape(module.image.apply, image_variables, IMAGES)
  assert tower.hidden.dtype == tower.final.dtype == jnp.bfloat16
  assert tower.hidden.shape == (3, 2, 5, 8)
  assert tower.final.shape == (2, 8)
  rounded, exact = (
    jax.jit(m.apply)(variables, IMAGES, IDS).cosines for m in (module, TINY)
  )
  assert rounded.dtype == jnp.float32
  np.testing.assert_allclose(rounded, exact, atol=0.05)


@pytest.mark.parametrize(
  ('module', 'shape', 'message'),
  [
    (TINY, (2, 9, 9, 3), r'shape \(2, 9, 9, 3\) are not \[B, 6, 6, 3\]'),
    (TINY, (2, 6, 6, 1), r'shape \(2, 6, 6, 1\) are not \[B, 6, 6, 3\]'),
    (TINY, (6, 6, 3), r'shape \(6, 6, 3\) are not \[B, 6, 6, 3\]'),
    (
      TINY.clone(image=IMAGE.clone(patch=7)),
      (2, 6, 6, 3),
      'side of 6 pixels are smaller than a patch of 7',
    ),
    (
      TINY.clone(image=IMAGE.clone(projection_width=6)),
      (2, 6, 6, 3),
      'image features have width 6, text features 5',
    ),
  ],
)
def test_wrong_sizes_are_refused(module, shape, message):
  images = jax.ShapeDtypeStruct(shape, jnp.float32)
  init = functools.partial(module.init, jax.random.key(0))
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(init, images, IDS)
