"""The reference of an evaluation: moments of a file, or images to look at."""

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

# What else than images the metrics can be taken from: fields of `Reference`.
_PARTS = {'fid': 'pool', 'sfid': 'spatial', 'kid': 'features'}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReferenceSet:
  """What generated images are compared with.

  Attributes:
    path: of the file or folder.
    reference: what the file holds beside images; None for a folder.
    images: to look at, where there are some.
  """

  path: str
  reference: Reference | None
  images: ImageSet | None

  @classmethod
  def open(
    cls, path: str | os.PathLike[str], *, widths: Mapping[str, int]
  ) -> 'ReferenceSet':
    """A reference .npz, or a folder of images.

    Args:
      path: of it.
      widths: of our features, by their names in the Inception probe.

    Raises:
      UserError: if it is missing, broken, or of another network.
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
    """What the file itself holds for a metric, or None."""
    if self.reference is None or metric not in _PARTS:
      return None
    return getattr(self.reference, _PARTS[metric])

  def needs_look(self, metric: str) -> bool:
    """Whether a metric is taken from the images.

    Raises:
      UserError: if it would have to be, and there are none.
    """
    if self.stored(metric) is not None:
      return False
    if self.images is None:
      raise UserError(
        f'{self.path} holds {", ".join(self.reference.provenance.arrays)}, of '
        f'which {metric} cannot be taken; give a reference with images (a '
        'folder, or an .npz with arr_0)'
      )
    return True

  def check(
    self, size: tuple[int, int], network: Mapping[str, Any], any_size: bool
  ) -> None:
    """Finds a reference that was made otherwise than our features.

    Args:
      size: (H, W) of our images.
      network: facts of our Inception probe.
      any_size: whether images of several sizes are comparable.

    Raises:
      UserError: naming what differs.
    """
    protocol = self.reference.provenance.protocol if self.reference else {}
    known = dict(protocol.get('network', {}))
    for name in ('params_sha256', 'resize'):
      if name in known and known[name] != network.get(name):
        raise UserError(
          f'{self.path} was made with {name}={known[name]}, our features have '
          f'{network.get(name)}'
        )
    theirs = protocol.get('image_size')
    if theirs is None and self.images is not None:
      theirs = self.images.size()
    if theirs is not None and tuple(theirs) != tuple(size) and not any_size:
      raise UserError(
        f'the reference {self.path} has images of {theirs[0]}x{theirs[1]} '
        f'pixels, ours have {size[0]}x{size[1]}: bring them to one size, or '
        'compare crops with --resize=crop'
      )

  @property
  def facts(self) -> dict[str, Any]:
    """For reports."""
    if self.reference is None:
      return self.images.facts | {'num_images': len(self.images)}
    count = self.reference.pool.count if self.reference.pool else None
    facts = dataclasses.asdict(self.reference.provenance)
    return facts | {'num_images_of_moments': count}


def moments(
  reference: ReferenceSet, metric: str, store: FeatureStore | None, name: str
) -> FeatureStatistics:
  """Moments of the reference, of the file if it holds some."""
  found = reference.stored(metric)
  return store.moments(name) if found is None else found


def vectors(
  reference: ReferenceSet, metric: str, store: FeatureStore | None
) -> np.ndarray:
  """Pooled features of the reference, likewise."""
  found = reference.stored(metric)
  return store.stack('vectors') if found is None else found
