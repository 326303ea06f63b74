"""Opens labelled images by name or folder, and batches them."""

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
  """Opens an image folder or a TFDS data set.

  Args:
    data: an existing folder, or else the name of a TFDS data set.
    split: TFDS split, 'train' by default; a folder is a single split.
    data_dir: TFDS data folder.
    channels: C, 1 or 3.

  Raises:
    UserError: as `ImageFolder` and `TfdsImages`, or if TFDS options are given
      with a folder.
  """
  folder = folder_of(data)
  if folder is not None:
    if split is not None or data_dir is not None:
      raise UserError(
        f'{data} is an image folder; split and data_dir are for TFDS'
      )
    return ImageFolder(folder, channels)
  return TfdsImages(data, split or 'train', data_dir, channels)


def folder_of(data: str) -> pathlib.Path | None:
  """The folder that `data` names; None for the name of a data set."""
  looks_like_path = data.startswith(('/', '.', '~'))
  path = pathlib.Path(data).expanduser()
  return path if looks_like_path or path.is_dir() else None


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

  Crops and flips depend only on the seed and the position in the stream, so the
  saved state is that position. Unreadable images are skipped.

  Args:
    source: images of any size.
    batch_size: B.
    seed: seed of permutations and augmentations.
    size: H = W.
    augment: a name in `pixels.AUGMENTATIONS`.
    rows: int [N], rows of each batch that this process keeps when several
      processes draw the same batches. It still reads all rows, because
      skipping unreadable images shifts later ones.
    num_threads: number of threads that read and decode.

  Returns:
    An iterator of {'image': float32 [B, H, W, C] in [0, 1], 'label':
    int32 [B]} whose state Orbax can save and restore.

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
    _dataset(source)
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
  """Batches of each image once, in order, without augmentation.

  Args:
    source: images of any size.
    batch_size: B; the last batch may be smaller.
    size: H = W.
    indices: range of images with step 1; all by default. Unreadable images are
      skipped.
    num_threads: number of threads that read and decode.

  Returns:
    An iterator of {'image': float32 [B, H, W, C] in [0, 1], 'label':
    int32 [B]}.
  """
  indices = range(len(source)) if indices is None else indices
  return iter(
    _dataset(source)
    .slice(slice(indices.start, indices.stop))
    .map(lambda x: {**x, 'image': pixels.square(x['image'], size)})
    .to_iter_dataset(_read_options(num_threads, batch_size))
    .batch(batch_size)
    .map(_to_float)
  )


def _dataset(source: ImageSource) -> grain.MapDataset:
  """The images; maps do not see the unreadable ones, which are None."""
  return grain.MapDataset.source(source)


def _chosen(batch: Example, rows: np.ndarray | None) -> Example:
  if rows is None:
    return batch
  return {name: array[rows] for name, array in batch.items()}


def _to_float(batch: Example) -> Example:
  return {**batch, 'image': pixels.to_float(batch['image'])}


def _read_options(num_threads: int, batch_size: int) -> grain.ReadOptions:
  """Options that prefetch up to two batches of single images."""
  return grain.ReadOptions(
    num_threads=num_threads,
    prefetch_buffer_size=max(num_threads, 2 * batch_size),
  )
