"""Image sets to evaluate: a folder of files from any source, or an .npz file.

Every image becomes uint8 RGB: grey and palette images are converted, 16-bit
images are scaled to 8 bits, and transparent images are composited on white
(`data/images/pixels.py`). An unreadable file stops the evaluation, because
skipping an image would change the set.
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

from softdimo_jax.data.images import pixels
from softdimo_jax.data.images.folder import SUFFIXES
from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.sets.reference_file import (
  image_batches,
  read_reference,
)

# Unsupported image formats; skipping such files would change the set.
_UNREAD = (
  *('.avif', '.bmp', '.gif', '.heic', '.jp2', '.jxl', '.pbm', '.pgm', '.ppm'),
  *('.tga', '.tif', '.tiff'),
)
# Images per batch when streaming an .npz file.
_STREAMED = 64
_THREADS = 8
# Seed of random subsets.
_SEED = 0


class ImageSet(abc.ABC):
  """A numbered set of images, read in ranges of ascending order."""

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
  """All images under a folder, sorted by name.

  Attributes:
    names: names of the files, relative to the folder.
  """

  def __init__(
    self, root: str | os.PathLike[str], num_images: int | None = None
  ):
    """Lists the files of the folder and its subfolders, except hidden ones.

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
    found = sorted(_files(self._root))
    unread = [name for name in found if name.lower().endswith(_UNREAD)]
    if unread:
      raise UserError(
        f'{root} contains {unread[0]}, which is not supported; convert it to '
        'PNG or remove it'
      )
    found = [name for name in found if name.lower().endswith(SUFFIXES)]
    if not found:
      raise UserError(f'{root} contains no images ({", ".join(SUFFIXES)})')
    self._available = len(found)
    chosen = _subset(str(root), len(found), num_images)
    self.names = tuple(found[index] for index in chosen)

  def __len__(self) -> int:
    return len(self.names)

  @property
  def fingerprint(self) -> dict[str, Any]:
    stats = [(self._root / name).stat() for name in self.names]
    listing = [
      f'{name} {stat.st_size} {stat.st_mtime_ns}'
      for name, stat in zip(self.names, stats, strict=True)
    ]
    digest = hashlib.sha256('\n'.join(listing).encode()).hexdigest()
    return {
      'kind': 'folder',
      'path': str(self._root),
      'available': self._available,
      'files_sha256': digest,
    }

  def read(self, start: int, stop: int) -> list[np.ndarray]:
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
      return list(pool.map(self._decode, self.names[start:stop]))

  def name(self, index: int) -> str:
    return self.names[index]

  def _decode(self, name: str) -> np.ndarray:
    path = self._root / name
    try:
      return pixels.decode(path.read_bytes())
    except (pixels.CorruptImage, OSError) as error:
      raise UserError(
        f'{path} cannot be read ({error}); repair or remove it'
      ) from error


class NpzImages(ImageSet):
  """Images `arr_0` of an .npz file: ADM's references, or samples."""

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
    self._available = reference.images[0]
    self._chosen = _subset(str(path), self._available, num_images)
    self._position, self._stream = 0, self._images()

  def __len__(self) -> int:
    return len(self._chosen)

  @property
  def fingerprint(self) -> dict[str, Any]:
    return {
      'kind': 'npz',
      'path': str(self._path),
      'available': self._available,
      'fingerprint': self._provenance.fingerprint,
    }

  def read(self, start: int, stop: int) -> list[np.ndarray]:
    if start < self._position:
      self._position, self._stream = 0, self._images()
    skipped, self._position = start - self._position, stop
    return list(itertools.islice(self._stream, skipped, skipped + stop - start))

  def name(self, index: int) -> str:
    return f'arr_0[{self._chosen[index]}]'

  def _images(self) -> Iterator[np.ndarray]:
    """The chosen images in order; grey channels are repeated."""
    chosen, number = set(self._chosen.tolist()), 0
    for batch in image_batches(self._path, _STREAMED):
      for image in batch:
        if number in chosen:
          yield np.broadcast_to(image, (*image.shape[:2], 3))
        number += 1


def open_images(path: str, num_images: int | None = None) -> ImageSet:
  """Opens an .npz file by its suffix, or else a folder; errors as theirs."""
  kind = NpzImages if path.endswith('.npz') else FolderImages
  return kind(path, num_images)


def same_size(images: Sequence[np.ndarray], names: Sequence[str]) -> None:
  """Checks that images can be stacked.

  Raises:
    UserError: naming the first image that differs in size.
  """
  for image, name in zip(images, names, strict=True):
    if image.shape != images[0].shape:
      (height, width), (other, wide) = images[0].shape[:2], image.shape[:2]
      raise UserError(
        f'all images of a set must have the same size, but {names[0]} is '
        f'{height}x{width} and {name} is {other}x{wide}; resize them, or use '
        '--resize=crop'
      )


def _files(root: pathlib.Path) -> Iterator[str]:
  for folder, folders, files in os.walk(root):
    folders[:] = [name for name in folders if not name.startswith('.')]
    for name in files:
      if not name.startswith('.'):
        yield (pathlib.Path(folder) / name).relative_to(root).as_posix()


def _subset(where: str, available: int, size: int | None) -> np.ndarray:
  if size is None or size == available:
    return np.arange(available)
  if size > available:
    raise UserError(f'{where} contains {available} images, fewer than {size}')
  rng = np.random.default_rng(_SEED)
  return np.sort(rng.choice(available, size, replace=False))
