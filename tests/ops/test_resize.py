import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.ops.resize import resize_bicubic, resize_bilinear, resize_tf1

RESIZES = [
  resize_bicubic,
  lambda *a: resize_bicubic(*a, antialias=False),
  resize_bilinear,
  resize_tf1,
]


def images(height=7, width=5):
  shape = (2, height, width, 3)
  return np.random.default_rng(0).uniform(size=shape).astype(np.float32)


@pytest.mark.parametrize('resize', RESIZES)
class TestEveryResize:
  def test_same_size_is_the_identity(self, resize):
    np.testing.assert_array_equal(resize(images(), 7, 5), images())

  @pytest.mark.parametrize('size', [(3, 4), (16, 9), (7, 11)])
  def test_constants_stay(self, resize, size):
    found = resize(jnp.full((1, 7, 5, 2), 0.3), *size)
    assert found.shape == (1, *size, 2)
    np.testing.assert_allclose(found, 0.3, rtol=1e-6)

  def test_gradient_is_the_slope(self, resize):
    # Linear, so that a difference over a long step has no error but rounding.
    rng = np.random.default_rng(1)
    direction = rng.normal(size=(2, 7, 5, 3))
    weights = rng.normal(size=(2, 9, 4))
    score = lambda x: jnp.vdot(resize(x, 9, 4)[..., 0], weights)
    x = images()
    slope = (score(x + direction) - score(x - direction)) / 2
    gradient = jax.grad(score)(x)
    found = jnp.vdot(gradient, direction)
    np.testing.assert_allclose(found, slope, rtol=1e-4)

  def test_integers_become_float32(self, resize):
    pixels = (255 * images()).astype(np.uint8)
    found = resize(pixels, 4, 4)
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, resize(pixels.astype(float), 4, 4))


def test_antialiased_bicubic_is_that_of_jax():
  expected = jax.image.resize(images(40, 30), (2, 11, 17, 3), 'cubic')
  found = resize_bicubic(images(40, 30), 11, 17)
  np.testing.assert_allclose(found, expected, atol=2e-6)


def test_bilinear_is_that_of_jax():
  x = images(8, 6)
  expected = jax.image.resize(x, (2, 11, 4, 3), 'linear', antialias=False)
  np.testing.assert_allclose(resize_bilinear(x, 11, 4), expected, atol=1e-6)


def test_antialiasing_averages_what_it_skips():
  stripes = jnp.tile(jnp.array([0.0, 1.0]), 16)[None, None, :, None]
  smooth = resize_bicubic(stripes, 1, 8)[0, 0, 2:-2, 0]
  np.testing.assert_allclose(smooth, 0.5, atol=0.02)


def test_cubic_without_antialiasing_weighs_four_pixels():
  # Halfway between two pixels, a = -0.75: (-3, 19, 19, -3) / 32. Pixel 3 is the
  # third of the second output's four and the first of the third's.
  line = jnp.zeros(8).at[3].set(1.0)[None, None, :, None]
  found = resize_bicubic(line, 1, 4, antialias=False)[0, 0, :, 0]
  np.testing.assert_allclose(found, np.array([0, 19, -3, 0]) / 32, atol=1e-7)


def test_tf1_aligns_the_first_pixels_and_repeats_the_last():
  line = jnp.array([0.0, 1.0, 4.0])[None, None, :, None]
  found = resize_tf1(line, 1, 6)[0, 0, :, 0]
  np.testing.assert_allclose(found, [0, 0.5, 1, 2.5, 4, 4])
