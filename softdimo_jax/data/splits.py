"""Images of experiments whose data fit into memory."""

import pathlib
import re

import ml_collections
import numpy as np

from softdimo_jax.data import digits
from softdimo_jax.data.digits import ImageSplit
from softdimo_jax.data.images import files, streams
from softdimo_jax.data.images.folder import HELD_OUT, TRAIN
from softdimo_jax.data.images.source import ImageSource
from softdimo_jax.errors import UserError

_BATCH = 256
# A split of TFDS that a folder has too: all images or the first ones.
_SPLIT = re.compile(r'\w+(?:\[:(\d+)\])?')


def load_splits(
  config: ml_collections.ConfigDict, image_shape: tuple[int, int, int]
) -> tuple[ImageSplit, ImageSplit]:
  """Loads the (train, held-out) images.

  Args:
    config: `name` is 'digits', an image folder, or a TFDS data set with `dir`,
      `train_split` and `held_out_split`. A folder with the subfolders `train`
      and `test` (or `val`) has its own splits; from others, `held_out` images,
      by default a tenth, are held out.
    image_shape: (H, W, C); other sizes are resized and cropped to it.

  Raises:
    UserError: if the data set is missing, too small, or its splits have
      different classes.
  """
  if config.name == 'digits':
    return digits.load(config.held_out)
  folder = streams.folder_of(config.name)
  if folder is not None:
    return _of_folder(folder, config, image_shape)
  train, held_out = (
    _read(
      f'split {split!r} of {config.name}',
      streams.open_source(
        config.name,
        split=split,
        data_dir=config.get('dir') or None,
        channels=image_shape[2],
      ),
      image_shape[0],
    )
    for split in (
      config.get('train_split', TRAIN),
      config.get('held_out_split', HELD_OUT[0]),
    )
  )
  return train, held_out


def _of_folder(
  folder: pathlib.Path,
  config: ml_collections.ConfigDict,
  image_shape: tuple[int, int, int],
) -> tuple[ImageSplit, ImageSplit]:
  def load(part: pathlib.Path) -> ImageSplit:
    source = streams.open_source(str(part.absolute()), channels=image_shape[2])
    return _read(str(part), source, image_shape[0])

  known = files.subfolders(folder) if folder.is_dir() else ()
  other = next((name for name in HELD_OUT if name in known), None)
  if TRAIN in known and other:
    train, held_out = load(folder / TRAIN), load(folder / other)
    if train.classes != held_out.classes:
      differ = set(train.classes) ^ set(held_out.classes)
      raise UserError(
        f'{folder}/{TRAIN} and {folder}/{other} must have the same classes, '
        f'but only one has {files.listed(sorted(differ))}'
      )
  else:
    whole = load(folder)
    count = config.get('held_out', max(1, len(whole.labels) // 10))
    try:
      train, held_out = digits.stratified(whole, count)
    except ValueError as error:
      raise UserError(
        f'{folder}: {count} of {len(whole.labels)} images cannot be held out '
        f'({error}); set config.data.held_out or add images'
      ) from error
  return (
    _first(train, config.get('train_split', '')),
    _first(held_out, config.get('held_out_split', '')),
  )


def _first(split: ImageSplit, name: str) -> ImageSplit:
  """As many images as a split such as 'train[:200]' has, chosen at random."""
  match = _SPLIT.fullmatch(name) if name else None
  if name and not match:
    raise UserError(
      f'split {name!r} is of TFDS; of a folder, splits are e.g. train or '
      'train[:200]'
    )
  if match is None or match[1] is None or int(match[1]) >= len(split.labels):
    return split
  order = np.random.default_rng(0).permutation(len(split.labels))
  rows = np.sort(order[: int(match[1])])
  return ImageSplit(split.images[rows], split.labels[rows], split.classes)


def _read(where: str, source: ImageSource, size: int) -> ImageSplit:
  batches = list(streams.ordered_batches(source, _BATCH, size))
  if not batches:
    raise UserError(f'{where} contains no images')
  return ImageSplit(
    np.concatenate([batch['image'] for batch in batches]),
    np.concatenate([batch['label'] for batch in batches]),
    source.classes,
  )
