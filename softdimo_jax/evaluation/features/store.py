"""Features of an image set on disk, range by range.

An interrupted evaluation continues with the missing ranges, later metrics reuse
the features, and the features do not depend on interruptions. The folder name
is a digest of the fingerprint of network and images.
"""

import hashlib
import io
import json
import pathlib
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.features.inception import Moments
from softdimo_jax.evaluation.metrics import FeatureStatistics
from softdimo_jax.runtime.files import write_atomically

_CLAIM = 'features_of.json'


class FeatureStore:
  """Arrays [N, ...] by name, in one file per range of images.

  Attributes:
    num_images: number of images N.
    images_per_range: images per file; the last file may have fewer.
  """

  def __init__(
    self,
    root: pathlib.Path,
    fingerprint: Mapping[str, Any],
    num_images: int,
    images_per_range: int,
  ):
    """Creates a store, or opens an existing one.

    Args:
      root: folder of all stores.
      fingerprint: JSON values that identify these features.
      num_images: number of images N.
      images_per_range: images per file; the last file may have fewer.

    Raises:
      UserError: if the folder is not writable.
    """
    self.num_images = num_images
    self.images_per_range = images_per_range
    claim = {
      **fingerprint,
      'num_images': num_images,
      'images_per_range': images_per_range,
    }
    text = json.dumps(claim, indent=2, sort_keys=True) + '\n'
    digest = hashlib.sha256(text.encode()).hexdigest()
    self._folder = root / digest[:16]
    write_atomically(self._folder / _CLAIM, text)

  def missing(self) -> list[tuple[int, int]]:
    """(start, stop) of the missing ranges, in order."""
    return [
      (start, stop)
      for start, stop in self._ranges()
      if not self._file(start).exists()
    ]

  def write(self, start: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the range that begins at `start`, atomically.

    Raises:
      UserError: for features that are not finite.
    """
    for name, array in arrays.items():
      if not np.isfinite(array).all():
        raise UserError(
          f'{name} of the images from {start} on contain NaN or infinity: the '
          'weights of the network are probably damaged'
        )
    buffer = io.BytesIO()
    fields: dict[str, Any] = dict(arrays)
    np.savez(buffer, **fields)
    write_atomically(self._file(start), buffer.getvalue())

  def parts(self, name: str) -> Iterator[np.ndarray]:
    """Yields the array of every range, in order.

    Raises:
      UserError: if a file is missing or damaged.
    """
    for start, stop in self._ranges():
      path = self._file(start)
      try:
        with np.load(path) as arrays:
          part = arrays[name]
      except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(
          f'{path} is missing or damaged; delete it and repeat the command'
        ) from error
      if len(part) != stop - start:
        raise UserError(
          f'{path} has {len(part)} images instead of {stop - start}; delete it '
          'and repeat the command'
        )
      yield part

  def stack(self, name: str) -> np.ndarray:
    """The whole array [N, ...]; raises like `parts`."""
    return np.concatenate(list(self.parts(name)))

  def moments(self, name: str) -> FeatureStatistics:
    """Mean and covariance, in memory independent of N."""
    moments = Moments()
    for part in self.parts(name):
      moments.add(part)
    return moments.result()

  def _ranges(self) -> Iterator[tuple[int, int]]:
    for start in range(0, self.num_images, self.images_per_range):
      yield start, min(start + self.images_per_range, self.num_images)

  def _file(self, start: int) -> pathlib.Path:
    return self._folder / f'{start:06d}.npz'
