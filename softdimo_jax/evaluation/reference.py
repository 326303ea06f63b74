"""The reference of an evaluation: stored moments, or images."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.features.store import FeatureStore
from softdimo_jax.evaluation.metrics import FeatureStatistics
from softdimo_jax.evaluation.sets.images import (
  FolderImages,
  ImageSet,
  NpzImages,
)
from softdimo_jax.evaluation.sets.reference_file import (
  Reference,
  read_reference,
)

# Fields of `Reference` from which metrics can be computed without images.
_PARTS = {'fid': 'pool', 'sfid': 'spatial', 'kid': 'features'}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReferenceSet:
  """Reference that generated images are compared with.

  Attributes:
    path: path of the file or folder.
    reference: contents of the file apart from images; None for a folder.
    images: the reference images; None if there are none.
  """

  path: str
  reference: Reference | None
  images: ImageSet | None

  @classmethod
  def open(
    cls, path: str | os.PathLike[str], *, widths: Mapping[str, int]
  ) -> 'ReferenceSet':
    """Opens a reference .npz file or a folder of images.

    Args:
      path: path of the file or folder.
      widths: widths of our features, by output of the Inception probe.

    Raises:
      UserError: if it is missing, damaged, or made by another network.
    """
    if pathlib.Path(path).expanduser().is_dir():
      return cls(path=str(path), reference=None, images=FolderImages(path))
    reference = read_reference(
      path,
      width=widths.get('vectors'),
      spatial_width=widths.get('spatial'),
    )
    images = NpzImages(path) if reference.images is not None else None
    return cls(path=str(path), reference=reference, images=images)

  def stored(self, metric: str) -> Any:
    """Stored moments or features for a metric, or None."""
    if self.reference is None or metric not in _PARTS:
      return None
    return getattr(self.reference, _PARTS[metric])

  @property
  def count(self) -> int | None:
    """Number of reference images; None if the file does not say."""
    if self.images is not None:
      return len(self.images)
    stored = self.reference
    if stored is not None and stored.features is not None:
      return len(stored.features)
    return stored.pool.count if stored is not None and stored.pool else None

  def needs_images(self, metric: str) -> bool:
    """Whether a metric must be computed from the images.

    Raises:
      UserError: if so, but there are no images.
    """
    if self.stored(metric) is not None:
      return False
    if self.images is None and self.reference is not None:
      raise UserError(
        f'{self.path} contains {", ".join(self.reference.provenance.arrays)}, '
        f'which do not suffice for {metric}; give a reference with images (a '
        'folder, or an .npz with arr_0)'
      )
    return True

  def check(
    self, size: tuple[int, int], network: Mapping[str, Any], any_size: bool
  ) -> None:
    """Checks that the reference is comparable with our features.

    Args:
      size: (H, W) of our images.
      network: fingerprint of our Inception probe.
      any_size: whether images of different sizes are comparable.

    Raises:
      UserError: naming the difference.
    """
    protocol = self.reference.provenance.protocol if self.reference else {}
    known = dict(protocol.get('network', {}))
    for name in ('params_sha256', 'options', 'resize'):
      if name in known and known[name] != network.get(name):
        raise UserError(
          f'{self.path} was made with {name}={known[name]}, but our features '
          f'with {network.get(name)}'
        )
    theirs = protocol.get('image_size')
    if theirs is None and self.images is not None:
      theirs = self.images.size()
    if theirs is not None and tuple(theirs) != tuple(size) and not any_size:
      raise UserError(
        f'the reference {self.path} has images of {theirs[0]}x{theirs[1]} '
        f'pixels, but ours have {size[0]}x{size[1]}: resize them, or compare '
        'crops with --resize=crop'
      )

  @property
  def metadata(self) -> dict[str, Any]:
    """JSON values that describe the reference in reports."""
    images = self.images
    if self.reference is None:
      return (
        {}
        if images is None
        else images.fingerprint | {'num_images': len(images)}
      )
    count = self.reference.pool.count if self.reference.pool else None
    provenance = dataclasses.asdict(self.reference.provenance)
    return provenance | {'num_images_of_moments': count}


def moments(
  reference: ReferenceSet, metric: str, store: FeatureStore | None, name: str
) -> FeatureStatistics:
  """Moments of the reference: stored ones if present, else from `store`."""
  stored = reference.stored(metric)
  return _features(store).moments(name) if stored is None else stored


def vectors(
  reference: ReferenceSet, metric: str, store: FeatureStore | None
) -> np.ndarray:
  """Pooled features of the reference, chosen as in `moments`."""
  stored = reference.stored(metric)
  return _features(store).stack('vectors') if stored is None else stored


def _features(store: FeatureStore | None) -> FeatureStore:
  if store is None:
    raise ValueError('the features of the reference are missing')
  return store
