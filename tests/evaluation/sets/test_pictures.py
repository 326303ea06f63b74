import io

import numpy as np
import PIL.Image
import pytest

from softdimo_jax.evaluation.sets.pictures import (
  encode_png,
  image_grid,
  save_picture,
  to_uint8,
)


def flat_images(values, height=2, width=3, channels=1):
  images = np.asarray(values, np.float32).reshape(-1, 1, 1, 1)
  return np.broadcast_to(images, (len(images), height, width, channels))


def test_quantisation_clips_and_rounds():
  values = np.array([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 7.0, np.inf])
  assert to_uint8(values).tolist() == [0, 0, 0, 1, 255, 255, 255]


def test_quantisation_inverts_pixel_over_255():
  pixels = np.arange(256, dtype=np.uint8)
  np.testing.assert_array_equal(to_uint8(pixels / np.float32(255)), pixels)


def test_grid_places_tiles_row_by_row():
  grid = image_grid(flat_images([0.0, 0.2, 0.4, 0.6, 0.8]), 2, padding=1)
  assert grid.shape == (3 * (2 + 1) + 1, 2 * (3 + 1) + 1, 1)
  assert grid.dtype == np.uint8
  corners = grid[1::3, 1::4, 0]
  np.testing.assert_array_equal(corners, [[0, 51], [102, 153], [204, 128]])


def test_padding_surrounds_every_tile():
  grid = image_grid(flat_images([1.0] * 4), 2, padding=2)[..., 0]
  background = grid == 128
  assert background[[0, 1, 4, 5, 8, 9]].all()
  assert background[:, [0, 1, 5, 6, 10, 11]].all()
  assert (grid == 255).sum() == 4 * 2 * 3


def test_scale_repeats_pixels():
  image = np.random.default_rng(0).random((1, 2, 2, 3))
  grid = image_grid(image, scale=3, padding=0)
  expected = np.kron(to_uint8(image[0]), np.ones((3, 3, 1), np.uint8))
  np.testing.assert_array_equal(grid, expected)


def test_default_grid_is_about_square():
  assert image_grid(flat_images([0.0] * 7), padding=0).shape == (6, 9, 1)


@pytest.mark.parametrize(
  ('images', 'options', 'message'),
  [
    (np.zeros((0, 2, 2, 1)), {}, 'N > 0'),
    (np.zeros((2, 2, 1)), {}, 'N, H, W'),
    (np.zeros((1, 2, 2, 4)), {}, '1 or 3'),
    (np.zeros((1, 2, 2, 1), np.uint8), {}, 'must be float'),
    (np.full((1, 2, 2, 1), np.nan), {}, 'NaN'),
    (np.zeros((1, 2, 2, 1)), {'columns': 0}, 'columns'),
    (np.zeros((1, 2, 2, 1)), {'scale': 0}, 'scale'),
  ],
)
def test_bad_grids(images, options, message):
  with pytest.raises(ValueError, match=message):
    image_grid(images, **options)


@pytest.mark.parametrize(('channels', 'mode'), [(1, 'L'), (3, 'RGB')])
def test_png_holds_the_pixels(tmp_path, channels, mode):
  pixels = np.random.default_rng(0).integers(
    0, 256, (4, 5, channels), dtype=np.uint8
  )
  save_picture(tmp_path / 'grid.png', pixels)
  assert (tmp_path / 'grid.png').read_bytes() == encode_png(pixels)
  with PIL.Image.open(io.BytesIO(encode_png(pixels))) as image:
    assert image.mode == mode
    np.testing.assert_array_equal(
      np.asarray(image).reshape(pixels.shape), pixels
    )
