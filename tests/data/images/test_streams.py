import logging
import pathlib
import sys

import numpy as np
import PIL.Image
import pytest

from softdimo_jax.data.images import streams
from softdimo_jax.data.images.source import check_classes
from softdimo_jax.errors import UserError

SIZE = 8


def save(path: pathlib.Path, level: int, shape=(SIZE, SIZE)) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  pixels = np.full((*shape, 3), level, np.uint8)
  PIL.Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
  """Twelve images of three classes; the level of image i is 10 i."""
  root = tmp_path / 'images'
  for i in range(12):
    suffix = ('.png', '.JPEG', '.webp')[i % 3]
    save(root / f'class_{i // 4}' / f'{i:02d}{suffix}', 10 * i)
  return root


def levels(batch) -> list[int]:
  """The images of a batch, told by their brightness."""
  return np.rint(batch['image'][:, 4, 4, 0] * 25.5).astype(int).tolist()


def test_folder_in_the_order_of_names(folder):
  source = streams.ImageFolder(folder)
  assert len(source) == 12
  for index, example in enumerate(source):
    assert example['image'].shape == (SIZE, SIZE, 3)
    assert example['image'].dtype == np.uint8
    assert abs(int(example['image'][0, 0, 0]) - 10 * index) <= 2
    assert example['label'] == index // 4
    assert example['label'].dtype == np.int32
  assert index == 11


def test_other_files_are_no_images(folder, caplog):
  (folder / 'class_0' / 'notes.txt').write_text('mine')
  (folder / 'class_0' / '._00.png').write_text('of a file manager')
  (folder / 'README.md').write_text('mine')
  (folder / '.cache').mkdir()
  source = streams.ImageFolder(folder)
  assert len(source) == 12
  assert source.left_out == (
    'README.md',
    'class_0/._00.png',
    'class_0/notes.txt',
  )
  assert 'left out: 3 (README.md, class_0/._00.png, ' in caplog.text


def test_classes_and_files_are_numbered_as_numbers(tmp_path):
  for label in range(12):
    save(tmp_path / str(label) / 'inner' / f'{label}.png', 10 * label)
  (tmp_path / '12').symlink_to(tmp_path / '3')
  source = streams.ImageFolder(tmp_path)
  assert source.classes == tuple(map(str, range(13)))
  assert [int(x['label']) for x in source] == list(range(13))
  assert [int(x['image'][0, 0, 0]) // 10 for x in source] == [*range(12), 3]


def test_a_number_that_is_not_the_label_is_said(tmp_path, caplog):
  for label in (0, 1):
    save(tmp_path / str(label) / '0.png', 0)
  streams.ImageFolder(tmp_path)
  assert not caplog.messages
  save(tmp_path / '3' / '0.png', 0)
  streams.ImageFolder(tmp_path)
  assert 'the class 3 has the label 2' in caplog.text


def test_splits_are_no_classes(tmp_path):
  for split in ('train', 'val'):
    save(tmp_path / split / 'cat' / '0.png', 0)
  with pytest.raises(UserError, match=r'splits, not classes: give .*/train'):
    streams.ImageFolder(tmp_path)


def test_a_generator_needs_all_classes_of_the_data(caplog):
  check_classes('set', ['cat', 'dog'], 2)
  assert not caplog.messages
  check_classes('set', ['cat', 'dog'], 5)
  assert 'labels from 2 on are not trained' in caplog.text
  with pytest.raises(UserError, match=r'3 classes, .* label 2 \(fish\)'):
    check_classes('set', ['cat', 'dog', 'fish'], 2)


def test_grey_source(folder):
  example = streams.ImageFolder(folder, channels=1)[3]
  assert example['image'].shape == (SIZE, SIZE, 1)
  assert abs(int(example['image'][0, 0, 0]) - 30) <= 2


def test_facts_follow_the_files_not_the_place(folder, tmp_path):
  fingerprint = streams.ImageFolder(folder).fingerprint
  moved = folder.rename(tmp_path / 'moved')
  assert streams.ImageFolder(moved).fingerprint == fingerprint
  (moved / 'class_0' / '00.png').unlink()
  assert streams.ImageFolder(moved).fingerprint != fingerprint


def test_missing_and_empty_folders(tmp_path):
  with pytest.raises(UserError, match='nowhere does not exist'):
    streams.open_source(str(tmp_path / 'nowhere'))
  with pytest.raises(UserError, match='contains no images; they must be in'):
    streams.open_source(str(tmp_path))
  (tmp_path / 'cats').mkdir()
  with pytest.raises(UserError, match=r'cats contains no images \(.jpg'):
    streams.open_source(str(tmp_path))


def test_options_of_tfds_do_not_fit_a_folder(folder):
  with pytest.raises(UserError, match='split and data_dir are for TFDS'):
    streams.open_source(str(folder), split='train')


def test_corrupt_image_is_skipped_counted_and_named(folder, caplog):
  (folder / 'class_1' / '05.JPEG').write_bytes(b'\xff\xd8 not really')
  source = streams.ImageFolder(folder)
  with caplog.at_level(logging.WARNING):
    examples = [source[i] for i in range(12)] + [source[5]]
  assert [i for i, x in enumerate(examples) if x is None] == [5, 12]
  assert source.skipped == {5: 'class_1/05.JPEG'}
  warnings = [m for m in caplog.messages if 'class_1/05.JPEG' in m]
  assert len(warnings) == 1 and '1 so far' in warnings[0]


def test_a_folder_of_corrupt_images_only(tmp_path):
  (tmp_path / 'a').mkdir()
  (tmp_path / 'a' / '0.png').write_bytes(b'')
  (tmp_path / 'a' / '1.png').write_bytes(b'')
  iterator = streams.image_batches(streams.ImageFolder(tmp_path), 2, 0, SIZE)
  with pytest.raises(UserError, match='none of the 2 images can be decoded'):
    next(iterator)


def test_a_file_that_vanishes_is_an_error_not_a_corrupt_image(folder):
  source = streams.ImageFolder(folder)
  (folder / 'class_0' / '00.png').unlink()
  with pytest.raises(UserError, match=r'00\.png cannot be read: No such file'):
    source[0]


def test_batches(folder):
  iterator = streams.image_batches(streams.ImageFolder(folder), 4, 0, SIZE)
  batches = [next(iterator) for _ in range(9)]
  for batch in batches:
    assert batch['image'].shape == (4, SIZE, SIZE, 3)
    assert batch['image'].dtype == np.float32
    assert batch['image'].min() >= 0 and batch['image'].max() <= 1
    assert batch['label'].dtype == np.int32
    np.testing.assert_array_equal(batch['label'], np.array(levels(batch)) // 4)
  epochs = [
    [x for batch in batches[i : i + 3] for x in levels(batch)]
    for i in (0, 3, 6)
  ]
  for epoch in epochs:
    assert sorted(epoch) == list(range(12))
  assert epochs[0] != epochs[1] != epochs[2]


@pytest.mark.parametrize('augment', ['flip', 'maskgit', 'maskbit'])
def test_batches_go_on_where_the_state_was_saved(tmp_path, augment, caplog):
  """With augmentation, and around a corrupt image."""
  rng = np.random.default_rng(0)
  for i in range(9):
    path = tmp_path / 'class' / f'{i}.png'
    path.parent.mkdir(exist_ok=True)
    noise = rng.integers(0, 256, (SIZE, SIZE + 2, 3), np.uint8)
    PIL.Image.fromarray(noise).save(path)
  path.write_bytes(b'')
  open_batches = lambda seed: streams.image_batches(
    streams.ImageFolder(tmp_path), 4, seed, SIZE, augment
  )
  iterator = open_batches(3)
  for _ in range(3):
    next(iterator)
  state = iterator.get_state()
  expected = [next(iterator) for _ in range(4)]
  resumed = open_batches(3)
  resumed.set_state(state)
  for batch in expected:
    np.testing.assert_array_equal(batch['image'], next(resumed)['image'])
  other = open_batches(4)
  other.set_state(state)
  assert not np.array_equal(expected[0]['image'], next(other)['image'])


def test_epochs_differ_in_their_flips(tmp_path):
  pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
  pixels[:, : SIZE // 2] = 255
  (tmp_path / 'class').mkdir()
  PIL.Image.fromarray(pixels).save(tmp_path / 'class' / '0.png')
  source = streams.ImageFolder(tmp_path)
  iterator = streams.image_batches(source, 1, 0, SIZE, 'flip')
  flipped = [next(iterator)['image'][0, 0, 0, 0] == 0 for _ in range(40)]
  assert 8 < sum(flipped) < 32


def test_unknown_augmentation(folder):
  with pytest.raises(ValueError, match="augment='mixup' is unknown"):
    streams.image_batches(streams.ImageFolder(folder), 4, 0, SIZE, 'mixup')


def test_without_tfds(monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorflow_datasets', None)
  with pytest.raises(UserError, match='pip install tensorflow-datasets'):
    streams.open_source('cifar10')


class TestTfds:
  """A data set of four images, prepared here without TensorFlow."""

  @pytest.fixture
  def data_dir(self, tmp_path) -> pathlib.Path:
    tfds = pytest.importorskip('tensorflow_datasets')

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
      VERSION = tfds.core.Version('1.0.0')

      def _info(self):
        return tfds.core.DatasetInfo(
          builder=self,
          features=tfds.features.FeaturesDict(
            {
              'image': tfds.features.Image(shape=(None, None, 3)),
              'label': tfds.features.ClassLabel(names=['night', 'day']),
            }
          ),
        )

      def _split_generators(self, manager):
        return {'train': self._generate_examples()}

      def _generate_examples(self):
        for i in range(4):
          path = tmp_path / 'originals' / f'{i}.png'
          save(path, 60 * i)
          yield i, {'image': path, 'label': i // 2}

    builder = Tiny(data_dir=tmp_path, file_format='array_record')
    builder.download_and_prepare()
    return tmp_path

  def test_images_and_labels(self, data_dir):
    source = streams.open_source('tiny', data_dir=data_dir)
    assert len(source) == 4
    found = sorted((int(x['image'][0, 0, 0]), int(x['label'])) for x in source)
    assert found == [(0, 0), (60, 0), (120, 1), (180, 1)]
    assert source.fingerprint == {
      'kind': 'tfds',
      'name': 'tiny/1.0.0 train',
      'num_images': 4,
    }
    assert 'tensorflow' not in sys.modules

  def test_part_of_a_split(self, data_dir):
    source = streams.open_source('tiny', split='train[:2]', data_dir=data_dir)
    assert len(source) == 2

  def test_batches(self, data_dir):
    source = streams.open_source('tiny', data_dir=data_dir)
    batch = next(streams.image_batches(source, 4, 0, SIZE))
    assert batch['image'].shape == (4, SIZE, SIZE, 3)
    assert sorted(batch['label'].tolist()) == [0, 0, 1, 1]

  def test_unknown_split(self, data_dir):
    with pytest.raises(UserError, match="no split 'valid'; it has train"):
      streams.open_source('tiny', split='valid', data_dir=data_dir)

  def test_unknown_name(self, data_dir):
    with pytest.raises(UserError, match="'tyni' is neither an image folder"):
      streams.open_source('tyni', data_dir=data_dir)

  def test_known_but_not_prepared(self, tmp_path):
    pytest.importorskip('tensorflow_datasets')
    command = (
      f'`tfds build cifar10 --file_format=array_record --data_dir={tmp_path}`'
    )
    with pytest.raises(UserError, match='is not in') as caught:
      streams.open_source('cifar10', data_dir=tmp_path)
    assert command in str(caught.value)
    with pytest.raises(UserError, match='--manual_dir='):
      streams.open_source('imagenet2012', data_dir=tmp_path)
