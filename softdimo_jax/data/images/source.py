"""What every set of labelled images offers, so that nobody else knows which."""

import abc
from typing import Any, SupportsIndex

import numpy as np
from absl import logging

from softdimo_jax.data.images import pixels
from softdimo_jax.errors import UserError

Example = dict[str, np.ndarray]


class ImageSource(abc.ABC):
  """Random access to labelled images, decoded at every access.

  `source[i]` is {'image': uint8 [H, W, C], 'label': int32 []}; H and W vary.
  It is None where the file cannot be decoded, which depends on its bytes only:
  the same images are left out in every epoch and after every restart.

  Attributes:
    channels: C, 1 or 3; other images are converted.
  """

  def __init__(self, channels: int = 3):
    self.channels = channels
    self._skipped: dict[int, str] = {}

  @abc.abstractmethod
  def __len__(self) -> int:
    """Number of images, unreadable ones included."""

  @abc.abstractmethod
  def read(self, index: int) -> tuple[bytes, int]:
    """(encoded image, label)."""

  @abc.abstractmethod
  def name(self, index: int) -> str:
    """What a person would look for to find the image."""

  @property
  @abc.abstractmethod
  def facts(self) -> dict[str, Any]:
    """JSON values that tell this source from another, wherever it lies."""

  @property
  def skipped(self) -> dict[int, str]:
    """Index and name of the images that were found to be unreadable so far."""
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
        'unreadable image %s is skipped (%s); %d so far',
        self.name(index),
        error,
        len(self._skipped),
      )
    if len(self._skipped) == len(self):
      raise UserError(
        f'none of the {len(self)} images can be decoded; the first is '
        f'{self.name(0)}'
      ) from error
