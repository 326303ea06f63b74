"""Features of a set of images on disk, range by range.

An interrupted evaluation goes on at the first missing range, metrics that are
asked for later find the features there, and none of it depends on where it was
interrupted. The folder's name is a digest of what the features are of.
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
  """Arrays [N, ...] by name, in files of one range of images each.

  Attributes:
    num_images: N.
    images_per_range: of all files but the last.
  """

  def __init__(
    self,
    root: pathlib.Path,
    fingerprint: Mapping[str, Any],
    num_images: int,
    images_per_range: int,
  ):
    """Starts a store or goes on with one.

    Args:
      root: folder of all stores.
      fingerprint: JSON values that tell these features from all others.
      num_images: N.
      images_per_range: of all files but the last.

    Raises:
      UserError: if the folder cannot be written.
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
    try:
      write_atomically(self._folder / _CLAIM, text)
    except OSError as error:
      raise UserError(
        f'{root} cannot be written to ({error.strerror}); choose another --out'
      ) from error

  def missing(self) -> list[tuple[int, int]]:
    """(start, stop) of the ranges not written yet, in order."""
    return [
      (start, stop)
      for start, stop in self._ranges()
      if not self._file(start).exists()
    ]

  def write(self, start: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes the range that begins at `start`; whole or not at all.

    Raises:
      UserError: for features that are not finite.
    """
    for name, array in arrays.items():
      if not np.isfinite(array).all():
        raise UserError(
          f'{name} of the images from {start} on hold NaN or infinity: the '
          'network or its weights are broken'
        )
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(self._file(start), buffer.getvalue())

  def parts(self, name: str) -> Iterator[np.ndarray]:
    """Yields the array of every range, in order.

    Raises:
      UserError: if a file is missing or broken.
    """
    for start, stop in self._ranges():
      path = self._file(start)
      try:
        with np.load(path) as arrays:
          part = arrays[name]
      except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(
          f'{path} is missing or broken; delete it and repeat the command'
        ) from error
      if len(part) != stop - start:
        raise UserError(f'{path} is of another set; delete it')
      yield part

  def stack(self, name: str) -> np.ndarray:
    """The whole array [N, ...]; errors as `parts`."""
    return np.concatenate(list(self.parts(name)))

  def moments(self, name: str) -> FeatureStatistics:
    """Mean and covariance, in memory that N does not change."""
    moments = Moments()
    for part in self.parts(name):
      moments.add(part)
    return moments.result()

  def _ranges(self) -> Iterator[tuple[int, int]]:
    for start in range(0, self.num_images, self.images_per_range):
      yield start, min(start + self.images_per_range, self.num_images)

  def _file(self, start: int) -> pathlib.Path:
    return self._folder / f'{start:06d}.npz'
