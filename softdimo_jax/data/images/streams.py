"""Labelled images by name or folder, and endless batches of them."""

import os
import pathlib

import grain
import numpy as np

from softdimo_jax.data.images import pixels
from softdimo_jax.data.images.folder import ImageFolder
from softdimo_jax.data.images.source import Example, ImageSource
from softdimo_jax.data.images.tfds import TfdsImages
from softdimo_jax.errors import UserError


def open_source(
  data: str,
  *,
  split: str | None = None,
  data_dir: str | os.PathLike[str] | None = None,
  channels: int = 3,
) -> ImageSource:
  """An existing folder, or else the TFDS data set of that name.

  Args:
    data: folder or name.
    split: of TFDS, 'train' by default; a folder is one split.
    data_dir: of TFDS.
    channels: C, 1 or 3.

  Raises:
    UserError: as `ImageFolder` and `TfdsImages` do, or if a folder is given
      with options of TFDS.
  """
  looks_like_path = data.startswith(('/', '.', '~'))
  if looks_like_path or pathlib.Path(data).is_dir():
    if split is not None or data_dir is not None:
      raise UserError(
        f'{data} is an image folder; split and data_dir are for TFDS'
      )
    return ImageFolder(pathlib.Path(data).expanduser(), channels)
  return TfdsImages(data, split or 'train', data_dir, channels)


def image_batches(
  source: ImageSource,
  batch_size: int,
  seed: int,
  size: int,
  augment: str = 'none',
  *,
  rows: np.ndarray | None = None,
  num_threads: int = 16,
) -> grain.DatasetIterator:
  """Endless shuffled batches; every epoch is a new permutation.

  Crops and flips are drawn from the seed and the position in the stream, so
  the saved state is that position. Unreadable images are left out.

  Args:
    source: images of any size.
    batch_size: B.
    seed: of permutations and augmentations.
    size: H = W.
    augment: a name in `pixels.AUGMENTATIONS`.
    rows: int [N], those of every batch that this process keeps, of several
      that draw the same batches. All are read: which images are in a batch
      depends on which can be.
    num_threads: that read and decode.

  Returns:
    An iterator of {'image': float32 [B, H, W, C] in [0, 1], 'label':
    int32 [B]} whose state Orbax saves and restores.

  Raises:
    ValueError: for an unknown augmentation.
  """
  if augment not in pixels.AUGMENTATIONS:
    raise ValueError(
      f'augment={augment!r} is unknown; choose one of '
      f'{tuple(pixels.AUGMENTATIONS)}'
    )
  transform = pixels.AUGMENTATIONS[augment]

  def prepare(example: Example, rng: np.random.Generator) -> Example:
    return {**example, 'image': transform(rng, example['image'], size)}

  return iter(
    grain.MapDataset.source(source)
    .seed(seed)
    .shuffle()
    .repeat()
    .random_map(prepare)
    .to_iter_dataset(_read_options(num_threads, batch_size))
    .batch(batch_size)
    .map(lambda batch: _to_float(_chosen(batch, rows)))
  )


def ordered_batches(
  source: ImageSource,
  batch_size: int,
  size: int,
  indices: range | None = None,
  *,
  num_threads: int = 16,
) -> grain.DatasetIterator:
  """Every image once, in order, without augmentation.

  Args:
    source: images of any size.
    batch_size: B; the last batch may be smaller.
    size: H = W.
    indices: of the images, with step 1; all by default. Unreadable ones are
      left out.
    num_threads: that read and decode.

  Returns:
    An iterator of {'image': float32 [B, H, W, C] in [0, 1], 'label':
    int32 [B]}.
  """
  indices = range(len(source)) if indices is None else indices
  return iter(
    grain.MapDataset.source(source)
    .slice(slice(indices.start, indices.stop))
    .map(lambda x: {**x, 'image': pixels.square(x['image'], size)})
    .to_iter_dataset(_read_options(num_threads, batch_size))
    .batch(batch_size)
    .map(_to_float)
  )


def _chosen(batch: Example, rows: np.ndarray | None) -> Example:
  if rows is None:
    return batch
  return {name: array[rows] for name, array in batch.items()}


def _to_float(batch: Example) -> Example:
  return {**batch, 'image': pixels.to_float(batch['image'])}


def _read_options(num_threads: int, batch_size: int) -> grain.ReadOptions:
  """Reads up to two batches of single images ahead."""
  return grain.ReadOptions(
    num_threads=num_threads,
    prefetch_buffer_size=max(num_threads, 2 * batch_size),
  )
