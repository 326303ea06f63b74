"""Common interface of all sets of labelled images."""

import abc
from typing import Any, SupportsIndex

import numpy as np
from absl import logging

from softdimo_jax.data.images import pixels
from softdimo_jax.errors import UserError

Example = dict[str, Any]  # arrays


class ImageSource(abc.ABC):
  """Random access to labelled images, decoded at each access.

  `source[i]` is {'image': uint8 [H, W, C], 'label': int32 []}; H and W vary.
  It is None if the file cannot be decoded, which depends on its bytes only: the
  same images are skipped in every epoch and after every restart.

  Attributes:
    channels: C, 1 or 3; images are converted to it.
    left_out: names of files that are not among the images.
  """

  def __init__(self, channels: int = 3):
    self.channels = channels
    self.left_out: tuple[str, ...] = ()
    self._skipped: dict[int, str] = {}

  @abc.abstractmethod
  def __len__(self) -> int:
    """Number of images, including unreadable ones."""

  @abc.abstractmethod
  def read(self, index: int) -> tuple[bytes, int]:
    """(encoded image, label)."""

  @abc.abstractmethod
  def name(self, index: int) -> str:
    """Name by which a user can find the image."""

  @property
  @abc.abstractmethod
  def classes(self) -> tuple[str, ...]:
    """Name of the class of each label, from 0 on."""

  @property
  @abc.abstractmethod
  def fingerprint(self) -> dict[str, Any]:
    """JSON values that identify this source, regardless of its location."""

  @property
  def skipped(self) -> dict[int, str]:
    """Index and name of each image found to be unreadable so far."""
    return dict(sorted(self._skipped.copy().items()))

  def __getitem__(self, index: SupportsIndex) -> Example | None:
    index = index.__index__()
    if not 0 <= index < len(self):
      raise IndexError(f'image {index} of {len(self)}')
    data, label = self.read(index)
    try:
      image = pixels.decode(data, self.channels)
    except pixels.CorruptImage as error:
      self._skip(index, error)
      return None
    return {'image': image, 'label': np.int32(label)}

  def _skip(self, index: int, error: pixels.CorruptImage) -> None:
    if index not in self._skipped:
      self._skipped[index] = self.name(index)
      logging.warning(
        'skipping unreadable image %s (%s); %d so far',
        self.name(index),
        error,
        len(self._skipped),
      )
    if len(self._skipped) == len(self):
      raise UserError(
        f'none of the {len(self)} images can be decoded, starting with '
        f'{self.name(0)}'
      ) from error
