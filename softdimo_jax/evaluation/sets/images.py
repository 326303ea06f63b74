"""Image sets to evaluate: a folder of files from any source, or an .npz file.

Every image becomes uint8 RGB (`data/images/pixels.py`). An unreadable file
stops the evaluation, because skipping an image would change the set.
"""

import abc
import concurrent.futures
import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from absl import logging

from softdimo_jax.data.images import files, pixels
from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.sets.reference_file import (
  image_batches,
  read_reference,
)
from softdimo_jax.runtime.files import read_bytes, shown

# Images per batch when streaming an .npz file.
_STREAMED = 64
_THREADS = 8
# Seed of random subsets.
_SEED = 0


class ImageSet(abc.ABC):
  """A numbered set of images, read in ranges of ascending order.

  Attributes:
    left_out: number of files that are not images.
  """

  left_out: int = 0

  @abc.abstractmethod
  def __len__(self) -> int:
    """Number of images N."""

  @property
  @abc.abstractmethod
  def fingerprint(self) -> dict[str, Any]:
    """JSON values that identify this set, for reports and caches."""

  @abc.abstractmethod
  def read(self, start: int, stop: int) -> list[np.ndarray]:
    """Images start to stop - 1, uint8 [H, W, 3] in their original sizes.

    Raises:
      UserError: if an image cannot be read.
    """

  @abc.abstractmethod
  def name(self, index: int) -> str:
    """Name by which a user can find an image."""

  def size(self) -> tuple[int, int]:
    """(H, W) of the first image."""
    return self.read(0, 1)[0].shape[:2]


class FolderImages(ImageSet):
  """All images below a folder, in the natural order of their names.

  Attributes:
    available: names of all images, relative to the folder.
    names: names of the chosen images, likewise.
    chosen: int [N], their indices in `available`.
  """

  def __init__(
    self, root: str | os.PathLike[str], num_images: int | None = None
  ):
    """Lists the files (`files.find`); warns of those that are left out.

    Args:
      root: the folder.
      num_images: size of a random subset; None takes all images.

    Raises:
      UserError: if the folder does not exist, has no images or fewer than
        `num_images`, or contains an unsupported image format.
    """
    self._root = pathlib.Path(root).expanduser()
    if not self._root.is_dir():
      raise UserError(f'{root} is not a folder of images')
    listing = files.find(self._root)
    if listing.unread:
      raise UserError(
        f'{root} contains images in formats that are not supported: '
        f'{files.listed(listing.unread)}; convert them to PNG or remove them'
      )
    if not listing.images:
      raise UserError(
        f'{root} contains no images ({", ".join(files.SUFFIXES)})'
      )
    self.left_out = len(listing.left_out)
    if self.left_out:
      logging.warning(
        '%s: files that are not images are left out: %s',
        shown(root),
        files.listed(listing.left_out),
      )
    self.available = listing.images
    self.chosen = _subset(shown(root), len(self.available), num_images)
    self.names = tuple(self.available[index] for index in self.chosen)

  def __len__(self) -> int:
    return len(self.names)

  @property
  def fingerprint(self) -> dict[str, Any]:
    stats = [(self._root / name).stat() for name in self.names]
    listing = [
      f'{name} {stat.st_size} {stat.st_mtime_ns}'
      for name, stat in zip(self.names, stats, strict=True)
    ]
    digest = hashlib.sha256(os.fsencode('\n'.join(listing))).hexdigest()
    return {
      'kind': 'folder',
      'path': shown(self._root),
      'available': len(self.available),
      'files_sha256': digest,
    }

  def read(self, start: int, stop: int) -> list[np.ndarray]:
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
      return list(pool.map(self._decode, self.names[start:stop]))

  def name(self, index: int) -> str:
    return shown(self.names[index])

  def _decode(self, name: str) -> np.ndarray:
    path = self._root / name
    try:
      return pixels.decode(read_bytes(path))
    except pixels.CorruptImage as error:
      raise UserError(
        f'{shown(path)} cannot be read ({error}); repair or remove it'
      ) from error


class NpzImages(ImageSet):
  """Images `arr_0` of an .npz file: ADM's references, or samples.

  Attributes:
    available: names of all images, by their number.
    chosen: int [N], their indices in `available`.
  """

  def __init__(
    self, path: str | os.PathLike[str], num_images: int | None = None
  ):
    """Opens the file without reading its images.

    Args:
      path: path of the file.
      num_images: size of a random subset; None takes all images.

    Raises:
      UserError: as `read_reference`, or if the file has no images or fewer than
        `num_images`.
    """
    self._path = path
    reference = read_reference(path)
    if reference.images is None:
      raise UserError(f'{path} contains no images (arr_0)')
    self._provenance = reference.provenance
    count = reference.images[0]
    self.available = tuple(f'arr_0[{index}]' for index in range(count))
    self.chosen = _subset(str(path), count, num_images)
    self._position, self._stream = 0, self._images()

  def __len__(self) -> int:
    return len(self.chosen)

  @property
  def fingerprint(self) -> dict[str, Any]:
    return {
      'kind': 'npz',
      'path': str(self._path),
      'available': len(self.available),
      'fingerprint': self._provenance.fingerprint,
    }

  def read(self, start: int, stop: int) -> list[np.ndarray]:
    if start < self._position:
      self._position, self._stream = 0, self._images()
    skipped, self._position = start - self._position, stop
    return list(itertools.islice(self._stream, skipped, skipped + stop - start))

  def name(self, index: int) -> str:
    return self.available[self.chosen[index]]

  def _images(self) -> Iterator[np.ndarray]:
    """The chosen images in order; grey channels are repeated."""
    chosen, number = set(self.chosen.tolist()), 0
    for batch in image_batches(self._path, _STREAMED):
      for image in batch:
        if number in chosen:
          yield np.broadcast_to(image, (*image.shape[:2], 3))
        number += 1


def open_images(
  path: str, num_images: int | None = None
) -> FolderImages | NpzImages:
  """Opens an .npz file by its suffix, or else a folder; errors as theirs."""
  kind = NpzImages if path.endswith('.npz') else FolderImages
  return kind(path, num_images)


def check_sizes(
  images: ImageSet,
  read: Sequence[np.ndarray],
  start: int,
  size: tuple[int, int],
) -> None:
  """Checks that images have the size of the first image of their set.

  Args:
    images: the set.
    read: its images from `start` on.
    start: index of the first image in `read`.
    size: (H, W) of the first image of the set.

  Raises:
    UserError: naming the first image that differs in size.
  """
  for index, image in enumerate(read, start=start):
    if image.shape[:2] != size:
      (height, width), (other, wide) = size, image.shape[:2]
      raise UserError(
        f'all images of a set must have the same size, but {images.name(0)} is '
        f'{height}x{width} and {images.name(index)} is {other}x{wide} (height '
        'x width); resize them (`evaluate` can: --resize=crop)'
      )


def _subset(where: str, available: int, size: int | None) -> np.ndarray:
  if size is None or size == available:
    return np.arange(available)
  if size > available:
    raise UserError(f'{where} contains {available} images, fewer than {size}')
  rng = np.random.default_rng(_SEED)
  return np.sort(rng.choice(available, size, replace=False))
