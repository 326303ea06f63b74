import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.ops.preprocess import (
  CLIP_MEAN,
  CLIP_STD,
  ImageTransform,
  center_crop,
  normalize,
  resize_short_side,
)
from tests.golden import parity


def images(height, width):
  shape = (2, height, width, 3)
  return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


def test_agrees_with_the_official_codes():
  parity.check('preprocess')


class TestImageTransform:
  @pytest.mark.parametrize('size', [(8, 8), (31, 12), (9, 20), (5, 6)])
  def test_any_image_becomes_the_square(self, size):
    found = ImageTransform(size=8)(images(*size))
    assert found.shape == (2, 8, 8, 3)
    assert found.dtype == jnp.float32

  def test_of_the_right_size_an_image_is_only_normalised(self):
    x = images(8, 8)
    expected = (x - np.array(CLIP_MEAN)) / np.array(CLIP_STD)
    found = ImageTransform(size=8)(x)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

  def test_overshoot_is_not_clamped(self):
    edge = np.zeros((1, 16, 16, 3), np.float32)
    edge[:, :, 8:] = 1
    transform = ImageTransform(size=12, mean=(0.0,) * 3, std=(1.0,) * 3)
    found = transform(edge)
    assert found.min() < 0
    assert found.max() > 1

  @pytest.mark.parametrize('antialias', [True, False])
  def test_gradient_is_the_slope(self, antialias):
    transform = ImageTransform(size=6, antialias=antialias)
    rng = np.random.default_rng(1)
    direction = rng.normal(size=(2, 11, 9, 3))
    weights = rng.normal(size=(2, 6, 6, 3))
    score = lambda x: jnp.vdot(transform(x), weights)
    x = images(11, 9)
    slope = (score(x + direction) - score(x - direction)) / 2
    gradient = jax.grad(score)(x)
    found = jnp.vdot(gradient, direction)
    np.testing.assert_allclose(found, slope, rtol=1e-4)

  def test_works_under_jit_and_vmap(self):
    transform, x = ImageTransform(size=4), images(6, 6)
    expected = transform(x)
    np.testing.assert_allclose(jax.jit(transform)(x), expected, atol=1e-5)
    np.testing.assert_allclose(jax.vmap(transform)(x), expected, atol=1e-5)

  def test_grey_images_are_refused(self):
    with pytest.raises(ValueError, match='1 channels, but 3 means'):
      ImageTransform(size=4)(images(6, 6)[..., :1])


def test_the_long_side_is_rounded_down():
  assert resize_short_side(images(50, 37), 24).shape == (2, 32, 24, 3)
  assert resize_short_side(images(37, 51), 24).shape == (2, 24, 33, 3)


@pytest.mark.parametrize(('width', 'left'), [(31, 2), (33, 2), (35, 4)])
def test_half_margins_round_to_even(width, left):
  x = jnp.arange(width)[None, :, None] * jnp.ones((28, 1, 1))
  assert center_crop(x, 28)[0, 0, 0] == left


def test_bad_sizes():
  with pytest.raises(ValueError, match='cannot crop 6x6 pixels from 5x9'):
    center_crop(jnp.zeros((5, 9, 3)), 6)
  with pytest.raises(ValueError, match='3 channels, but 1 means'):
    normalize(jnp.zeros((5, 9, 3)), (0.5,), (0.5,))
