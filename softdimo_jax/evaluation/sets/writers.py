"""Writers of generated images: an ADM-style .npz file, PNG or JPEG files.

Images are written in ranges, and writing may stop at any time: every file is
complete or absent, and `missing` returns the ranges still to be written. Pixels
are quantised by `pictures.to_uint8`.

    export = NpzExport(path, num_images=50_000, made_by={'stage': 'softdimo'})
    for start, stop in export.missing():
      export.write(start, generate(start, stop))
    export.finish()
"""

import abc
import concurrent.futures
import json
import os
import pathlib
import shutil
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.sets.pictures import (
  encode_jpeg,
  encode_png,
  to_uint8,
)
from softdimo_jax.runtime import lock, storage
from softdimo_jax.runtime.files import write_atomically

PathLike = str | os.PathLike[str]


class ImageExport(abc.ABC):
  """A numbered set of images that is written in ranges.

  Attributes:
    num_images: N.
    images_per_range: images per range; the last range may have fewer.
  """

  def __init__(
    self,
    path: PathLike,
    *,
    num_images: int,
    made_by: dict[str, Any],
    images_per_range: int = 500,
  ):
    """Starts or resumes an export.

    Args:
      path: path of the result.
      num_images: N.
      made_by: JSON values that identify these images (model, seed), so that
        two sets do not mix.
      images_per_range: images per call of `write`.

    Raises:
      UserError: if the path exists and is not this export.
      ValueError: if `num_images` or `images_per_range` is below 1.
    """
    if num_images < 1 or images_per_range < 1:
      raise ValueError(
        'num_images and images_per_range must be at least 1, got '
        f'{num_images} and {images_per_range}'
      )
    self.num_images = num_images
    self.images_per_range = images_per_range
    self._path = pathlib.Path(path)
    self._claim(made_by)

  def missing(self) -> Iterator[tuple[int, int]]:
    """(start, stop) of the ranges that are not written yet, in order."""
    for start in range(0, self.num_images, self.images_per_range):
      stop = min(start + self.images_per_range, self.num_images)
      if not self._written(start, stop):
        yield start, stop

  def write(self, start: int, images: np.ndarray) -> None:
    """Writes the range that begins at `start`.

    Args:
      start: index of the first image.
      images: float [stop - start, H, W, 1 or 3] in [0, 1].

    Raises:
      ValueError: for a wrong number or shape of images, or NaN.
    """
    count = min(self.images_per_range, self.num_images - start)
    shape = np.shape(images)
    if len(shape) != 4 or shape[0] != count or shape[3] not in (1, 3):
      raise ValueError(
        f'the range at {start} takes images [{count}, H, W, 1 or 3], got '
        f'{shape}'
      )
    self._write(start, to_uint8(images))

  def finish(self) -> None:
    """Completes the export.

    Raises:
      RuntimeError: if a range is missing.
      ValueError: if the images of two ranges differ in size.
    """
    left = next(self.missing(), None)
    if left is not None:
      raise RuntimeError(f'images {left[0]} to {left[1] - 1} are not written')

  def _claim(self, made_by: dict[str, Any]) -> None:
    path = self._claim_path
    claim = {
      'num_images': self.num_images,
      'images_per_range': self.images_per_range,
      'made_by': made_by,
    }
    text = json.dumps(claim, indent=2, sort_keys=True) + '\n'
    if path.exists():
      ours = path.read_text('utf-8') == text
    else:
      ours = not self._occupied()
    if not ours:
      raise UserError(
        f'{self._path} exists and is not this export; delete it or choose '
        'another path'
      )
    write_atomically(path, text)

  @property
  @abc.abstractmethod
  def _claim_path(self) -> pathlib.Path:
    """File that records `made_by` and the ranges."""

  @abc.abstractmethod
  def _occupied(self) -> bool:
    """Whether the path already has content from any source."""

  @abc.abstractmethod
  def _written(self, start: int, stop: int) -> bool:
    """Whether the range is complete."""

  @abc.abstractmethod
  def _write(self, start: int, pixels: np.ndarray) -> None:
    """Writes uint8 [n, H, W, 1 or 3]; every file is written atomically."""


class PngExport(ImageExport):
  """A folder of `000000.png`, `000001.png`, ..."""

  @property
  def _claim_path(self) -> pathlib.Path:
    return self._path / '.export.json'

  def _occupied(self) -> bool:
    inside = self._path.iterdir() if self._path.exists() else ()
    return any(file.name != lock.NAME for file in inside)

  def _file(self, index: int) -> pathlib.Path:
    return self._path / f'{index:06d}.png'

  def _encode(self, pixels: np.ndarray) -> bytes:
    return encode_png(pixels)

  def _written(self, start: int, stop: int) -> bool:
    return all(self._file(index).exists() for index in range(start, stop))

  def _write(self, start: int, pixels: np.ndarray) -> None:
    def save(offset: int) -> None:
      path = self._file(start + offset)
      write_atomically(path, self._encode(pixels[offset]))

    with concurrent.futures.ThreadPoolExecutor() as pool:
      list(pool.map(save, range(len(pixels))))

  def finish(self) -> None:
    super().finish()
    for partial in self._path.rglob('.*.partial'):  # left by a killed process
      partial.unlink()


class JpegExport(PngExport):
  """A folder of `00000.jpg`, ... in Pillow's default quality, as in HPSv2."""

  def _file(self, index: int) -> pathlib.Path:
    return self._path / f'{index:05d}.jpg'

  def _encode(self, pixels: np.ndarray) -> bytes:
    return encode_jpeg(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


class NpzExport(ImageExport):
  """One file with `arr_0`, uint8 [N, H, W, 3], for ADM's evaluator.

  Ranges are stored as raw pixels in `FILE.parts` until `finish` joins them,
  which temporarily needs twice the disk space. Grey images become three equal
  channels.
  """

  @property
  def _claim_path(self) -> pathlib.Path:
    return self._path.with_name(f'{self._path.name}.json')

  @property
  def _parts(self) -> pathlib.Path:
    return self._path.with_name(f'{self._path.name}.parts')

  def _occupied(self) -> bool:
    return self._path.exists() or self._parts.exists()

  def _part(self, start: int) -> pathlib.Path:
    return self._parts / f'{start:06d}.npy'

  def _written(self, start: int, stop: int) -> bool:
    del stop
    return self._path.exists() or self._part(start).exists()

  def _write(self, start: int, pixels: np.ndarray) -> None:
    rgb = np.broadcast_to(pixels, (*pixels.shape[:3], 3))
    partial = self._part(start).with_suffix('.partial')
    with storage.written(self._part(start)):
      self._parts.mkdir(exist_ok=True)
      with partial.open('wb') as file:
        np.save(file, rgb)
      os.replace(partial, self._part(start))

  def finish(self) -> None:
    super().finish()
    if not self._path.exists():
      self._join()
    shutil.rmtree(self._parts, ignore_errors=True)

  def _join(self) -> None:
    starts = range(0, self.num_images, self.images_per_range)
    parts = [np.load(self._part(start), mmap_mode='r') for start in starts]
    sizes = {part.shape[1:] for part in parts}
    if len(sizes) > 1:
      raise ValueError(f'images differ in size: {sorted(sizes)}')
    partial = self._path.with_name(f'.{self._path.name}.partial')
    with storage.written(self._path):
      _write_npz(partial, parts, (self.num_images, *sizes.pop()))
      os.replace(partial, self._path)


def _write_npz(
  path: pathlib.Path, parts: list[np.ndarray], shape: tuple[int, ...]
) -> None:
  """Writes the file of `np.savez(path, array)` without the array in memory."""
  header = {'descr': '|u1', 'fortran_order': False, 'shape': shape}
  # The default date is constant, so equal images give equal files.
  member = zipfile.ZipInfo('arr_0.npy')
  with (
    zipfile.ZipFile(path, 'w', zipfile.ZIP_STORED) as archive,
    archive.open(member, 'w', force_zip64=True) as file,
  ):
    np.lib.format.write_array_header_1_0(file, header)
    for part in parts:
      file.write(part.data)
