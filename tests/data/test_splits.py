"""Labelled folders as data that fit into memory."""

import ml_collections
import numpy as np
import PIL.Image
import pytest

from softdimo_jax.data import splits
from softdimo_jax.errors import UserError

SHAPE = (4, 4, 1)


def save(folder, count, level):
  folder.mkdir(parents=True)
  for index in range(count):
    pixels = np.full((8, 6, 3), level, np.uint8)
    PIL.Image.fromarray(pixels).save(folder / f'{index}.png')


def load(folder, **fields):
  config = ml_collections.ConfigDict({'name': str(folder)} | fields)
  return splits.load_splits(config, SHAPE)


def test_a_part_of_a_folder_is_held_out(tmp_path):
  for label in range(3):
    save(tmp_path / str(label), 6, 100 * label)
  train, held_out = load(tmp_path, held_out=3)
  assert train.images.shape == (15, 4, 4, 1)
  assert train.classes == held_out.classes == ('0', '1', '2')
  assert held_out.labels.tolist().count(1) == 1
  for part in (train, held_out):
    levels = np.rint(part.images[:, 0, 0, 0] * 2.55)
    np.testing.assert_array_equal(levels, part.labels)
  with pytest.raises(UserError, match='2 of 18 images cannot be held out'):
    load(tmp_path, held_out=2)


def test_a_folder_has_splits_of_its_own(tmp_path):
  for split, count in (('train', 5), ('val', 2)):
    for label in ('cat', 'dog'):
      save(tmp_path / split / label, count, 0)
  fields = {'train_split': 'train[:7]', 'held_out_split': 'test'}
  train, held_out = load(tmp_path, **fields)
  assert len(train.labels) == 7 and len(held_out.labels) == 4
  assert set(train.labels) == {0, 1}
  with pytest.raises(UserError, match=r"'train\[5:\]' is of TFDS"):
    load(tmp_path, train_split='train[5:]')
  save(tmp_path / 'train' / 'fish', 1, 0)
  with pytest.raises(UserError, match=r'same classes, .* has 1 \(fish\)'):
    load(tmp_path, **fields)


def test_a_folder_that_does_not_exist(tmp_path):
  with pytest.raises(UserError, match='nowhere does not exist'):
    load(tmp_path / 'nowhere')
