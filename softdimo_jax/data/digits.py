"""scikit-learn's digits: 1,797 real handwritten 8x8 digits, no download.

NIST preprocessing reduced 32x32 bitmaps to 8x8 counts from 0 to 16 (UCI
"Optical recognition of handwritten digits").
"""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class ImageSplit:
  """Labelled images.

  Attributes:
    images: float32 [N, H, W, C] in [0, 1].
    labels: int32 [N].
    classes: name of the class of each label.
  """

  images: np.ndarray
  labels: np.ndarray
  classes: tuple[str, ...]


def load(held_out: int = 360) -> tuple[ImageSplit, ImageSplit]:
  """Stratified (train, held-out) splits, the same at every call.

  Args:
    held_out: number of held-out images.
  """
  # Imported here because scikit-learn takes as long to import as JAX, which
  # every command would pay for.
  from sklearn.datasets import load_digits

  data: Any = load_digits()  # its type includes a tuple
  images = (data.images / 16).astype(np.float32)[..., None]
  labels = data.target.astype(np.int32)
  classes = tuple(map(str, range(10)))
  return stratified(ImageSplit(images, labels, classes), held_out)


def stratified(
  split: ImageSplit, held_out: int
) -> tuple[ImageSplit, ImageSplit]:
  """(train, held-out) parts with equal shares of the classes.

  Args:
    split: all images.
    held_out: number of held-out images.

  Raises:
    ValueError: if the classes have too few images.
  """
  from sklearn.model_selection import train_test_split

  images, labels = split.images, split.labels
  parts: list[Any] = train_test_split(
    images, labels, test_size=held_out, stratify=labels, random_state=0
  )
  return (
    ImageSplit(parts[0], parts[2], split.classes),
    ImageSplit(parts[1], parts[3], split.classes),
  )
