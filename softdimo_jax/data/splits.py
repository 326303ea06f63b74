"""Images of experiments whose data fit into memory."""

import ml_collections
import numpy as np

from softdimo_jax.data import digits
from softdimo_jax.data.digits import ImageSplit
from softdimo_jax.data.images import streams
from softdimo_jax.errors import UserError

_BATCH = 256


def load_splits(
  config: ml_collections.ConfigDict, image_shape: tuple[int, int, int]
) -> tuple[ImageSplit, ImageSplit]:
  """Loads the (train, held-out) images.

  Args:
    config: `name` is 'digits', with `held_out`, or a TFDS data set, with
      `dir`, `train_split` and `held_out_split`.
    image_shape: (H, W, C); other sizes are resized and cropped to it.

  Raises:
    UserError: if the data set is missing.
  """
  if config.name == 'digits':
    return digits.load(config.held_out)
  size, _, channels = image_shape
  train, held_out = (
    _read(config.name, split, config.dir or None, size, channels)
    for split in (config.train_split, config.held_out_split)
  )
  return train, held_out


def _read(
  name: str, split: str, data_dir: str | None, size: int, channels: int
) -> ImageSplit:
  source = streams.open_source(
    name, split=split, data_dir=data_dir, channels=channels
  )
  batches = list(streams.ordered_batches(source, _BATCH, size))
  if not batches:
    raise UserError(f'split {split!r} of {name} contains no images')
  return ImageSplit(
    np.concatenate([batch['image'] for batch in batches]),
    np.concatenate([batch['label'] for batch in batches]),
  )
