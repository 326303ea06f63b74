"""Common interface of all sets of labelled images."""

import abc
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
from absl import logging

from softdimo_jax.data.images import pixels
from softdimo_jax.errors import UserError

Example = dict[str, Any]  # arrays


def check_classes(where: str, classes: Sequence[str], num_classes: int) -> None:
  """Checks that a generator has all classes of a data set.

  Warns if it has more.

  Args:
    where: name of the data set.
    classes: name of the class of each label.
    num_classes: classes of the generator.

  Raises:
    UserError: naming the first class that the generator does not have.
  """
  count = f'{where} has {len(classes)} classes'
  if len(classes) > num_classes:
    raise UserError(
      f'{count}, but the generator has {num_classes}, so that label '
      f'{num_classes} ({classes[num_classes]}) does not exist; set '
      f'config.model.generator.num_classes={len(classes)} or leave classes out'
    )
  if len(classes) < num_classes:
    logging.warning(
      '%s, fewer than the %d of the generator: labels from %d on are not '
      'trained',
      *(count, num_classes, len(classes)),
    )


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
      image = pixels.decode(data, self.channels, shrink=True)
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
