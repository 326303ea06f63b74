"""Folders and archives of images, as evaluations read them."""

import numpy as np
import PIL.Image
import pytest

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.sets.images import (
  FolderImages,
  NpzImages,
  check_sizes,
  open_images,
)

RED = np.array([255, 0, 0], np.uint8)


def save(path, pixels, mode=None):
  path.parent.mkdir(parents=True, exist_ok=True)
  PIL.Image.fromarray(pixels, mode).save(path)


def colors(count, size=4):
  rng = np.random.default_rng(count)
  return rng.integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
  for index, image in enumerate(colors(5)):
    save(tmp_path / 'set' / f'{index}.png', image)
  return tmp_path / 'set'


def test_files_come_in_the_order_of_their_names(folder):
  save(folder / 'inner' / 'a.png', colors(1)[0])
  (folder / '.hidden.png').write_bytes(b'')
  (folder / 'notes.txt').write_text('')
  images = FolderImages(folder)
  assert images.names == (*(f'{i}.png' for i in range(5)), 'inner/a.png')
  np.testing.assert_array_equal(images.read(1, 3), colors(5)[1:3])
  assert images.size() == (4, 4) and images.name(5) == 'inner/a.png'


def test_everything_becomes_rgb_as_documented(tmp_path):
  grey = np.full((2, 2), 100, np.uint8)
  save(tmp_path / '0_grey.png', grey)
  save(tmp_path / '1_deep.png', np.full((2, 2), 100 * 257, np.uint16))
  clear = np.concatenate([np.tile(RED, (2, 2, 1)), grey[..., None] * 0], -1)
  save(tmp_path / '2_clear.png', clear)
  palette = PIL.Image.fromarray(np.tile(RED, (2, 2, 1))).convert('P')
  palette.save(tmp_path / '3_palette.png')
  found = np.stack(FolderImages(tmp_path).read(0, 4))
  assert found.shape == (4, 2, 2, 3) and found.dtype == np.uint8
  np.testing.assert_array_equal(found[0], 100)
  np.testing.assert_array_equal(found[1], 100)
  np.testing.assert_array_equal(found[2], 255)  # transparent: laid on white
  np.testing.assert_array_equal(found[3], np.tile(RED, (2, 2, 1)))


def test_a_file_that_cannot_be_read_is_named(folder):
  data = (folder / '3.png').read_bytes()
  (folder / '3.png').write_bytes(data[: len(data) // 2])
  images = FolderImages(folder)
  images.read(0, 3)
  with pytest.raises(UserError, match=r'3\.png cannot be read .*repair or'):
    images.read(0, 5)


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('nowhere', 'is not a folder'),
    ('empty', 'contains no images'),
    ('strange', r'not supported: 1 \(a\.TIF\)'),
  ],
)
def test_folders_without_images_are_refused(tmp_path, name, message):
  (tmp_path / 'empty').mkdir()
  (tmp_path / 'strange').mkdir()
  (tmp_path / 'strange' / 'a.TIF').write_bytes(b'')
  with pytest.raises(UserError, match=message):
    FolderImages(tmp_path / name)


def test_fewer_images_are_a_fixed_random_subset(folder):
  names = FolderImages(folder, 3).names
  assert len(set(names)) == 3 and list(names) == sorted(names)
  assert names == FolderImages(folder, 3).names
  assert FolderImages(folder, 3).fingerprint['available'] == 5
  with pytest.raises(UserError, match='contains 5 images, fewer than 6'):
    FolderImages(folder, 6)


def test_facts_tell_sets_apart(folder):
  before = FolderImages(folder).fingerprint
  assert before == FolderImages(folder).fingerprint
  save(folder / '0.png', colors(6)[5])
  assert FolderImages(folder).fingerprint != before


@pytest.mark.parametrize('channels', [1, 3])
def test_archives_are_streamed_in_order(tmp_path, channels):
  pixels = colors(150)[..., :channels]
  np.savez_compressed(tmp_path / 'a.npz', pixels)
  images = open_images(str(tmp_path / 'a.npz'))
  assert isinstance(images, NpzImages) and len(images) == 150
  rgb = np.broadcast_to(pixels, (150, 4, 4, 3))
  np.testing.assert_array_equal(images.read(100, 103), rgb[100:103])
  np.testing.assert_array_equal(images.read(2, 5), rgb[2:5])
  np.testing.assert_array_equal(images.read(149, 150), rgb[149:])
  few = NpzImages(tmp_path / 'a.npz', 10)
  chosen = [int(few.name(i)[6:-1]) for i in range(10)]
  np.testing.assert_array_equal(few.read(0, 10), rgb[chosen])


def test_archives_without_images_are_refused(tmp_path):
  np.savez(tmp_path / 'a.npz', mu=np.zeros(2), sigma=np.eye(2))
  with pytest.raises(UserError, match='contains no images'):
    NpzImages(tmp_path / 'a.npz')


def test_sizes_that_differ_are_named(folder):
  save(folder / '4.png', colors(1, 5)[0])
  images = FolderImages(folder)
  check_sizes(images, images.read(2, 4), 2, images.size())
  with pytest.raises(
    UserError, match=r'0\.png is 4x4 and 4\.png is 5x5.*--resize=crop'
  ):
    check_sizes(images, images.read(3, 5), 3, images.size())


def test_what_is_left_out_is_counted_and_named(folder, caplog):
  (folder / 'notes.txt').write_text('')
  (folder / '5.PNG').symlink_to('nowhere')
  images = FolderImages(folder)
  assert len(images) == 5 and images.left_out == 2
  assert 'left out: 2 (5.PNG, notes.txt)' in caplog.text
  assert NpzImages.left_out == 0
