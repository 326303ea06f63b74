"""TFDS images, read without TensorFlow.

TFDS returns the encoded files from its array_record shards; they are decoded
like those of a folder.
"""

from typing import Any

from softdimo_jax.data.images.source import ImageSource
from softdimo_jax.data.tfds_data import PathLike, TfdsData
from softdimo_jax.errors import UserError


class TfdsImages(ImageSource):
  """A prepared TFDS data set with the features `image` and `label`."""

  def __init__(
    self,
    name: str,
    split: str = 'train',
    data_dir: PathLike | None = None,
    channels: int = 3,
  ):
    """Opens the data set; nothing is downloaded.

    Args:
      name: e.g. 'imagenet2012' or 'cifar10'.
      split: e.g. 'train' or 'train[:10%]'.
      data_dir: folder it was prepared in; TFDS's default if None.
      channels: C, 1 or 3.

    Raises:
      UserError: if TFDS is not installed, or the data set or split does not
        exist, or has no labelled images.
    """
    super().__init__(channels)
    data = TfdsData.open(name, data_dir, 'an image folder')
    _check_features(data.tfds, data.builder)
    encoded = {'image': data.tfds.decode.SkipDecoding()}
    # {'image': encoded bytes, 'label': int, ...}
    self._records = data.records(split, encoded)
    self._classes = tuple(data.builder.info.features['label'].names)
    self._name = f'{data.builder.info.full_name} {split}'

  def __len__(self) -> int:
    return len(self._records)

  def read(self, index: int) -> tuple[bytes, int]:
    record = self._records[index]
    return record['image'], record['label']

  def name(self, index: int) -> str:
    return f'{self._name} [{index}]'

  @property
  def classes(self) -> tuple[str, ...]:
    return self._classes

  @property
  def fingerprint(self) -> dict[str, Any]:
    return {'kind': 'tfds', 'name': self._name, 'num_images': len(self)}


def _check_features(tfds: Any, builder: Any) -> None:
  """Raises UserError unless examples are images with class labels."""
  features = dict(builder.info.features.items())
  images = isinstance(features.get('image'), tfds.features.Image)
  labels = features.get('label')
  if not images or not isinstance(labels, tfds.features.ClassLabel):
    raise UserError(
      f'TFDS data set {builder.info.full_name} has no `image` with a class '
      f'`label`; its features are {", ".join(features)}'
    )
