"""Images of TFDS without TensorFlow.

TFDS hands out the encoded files of its array_record shards; they are decoded
like those of a folder.
"""

import os
from typing import Any

from softdimo_jax.data.image_source import ImageSource
from softdimo_jax.errors import UserError

PathLike = str | os.PathLike[str]


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
      data_dir: where it was prepared; by default TFDS's own place.
      channels: C, 1 or 3.

    Raises:
      UserError: if TFDS is not installed, or does not have the data set, its
        split, or labelled images in it.
    """
    super().__init__(channels)
    tfds = _import_tfds(name)
    builder = _builder(tfds, name, data_dir)
    prepare = _preparation(builder, name, data_dir)
    if not builder.info.splits:
      raise UserError(
        f'TFDS data set {name} is not in {builder.data_path}; run {prepare}'
      )
    self._labels = _labels(tfds, builder)
    self._records = _records(tfds, builder, split, prepare)
    self._name = f'{builder.info.full_name} {split}'

  def __len__(self) -> int:
    return len(self._records)

  def read(self, index: int) -> tuple[bytes, int]:
    record = self._records[index]
    return record['image'], record['label']

  def name(self, index: int) -> str:
    return f'{self._name} [{index}]'

  @property
  def class_names(self) -> tuple[str, ...]:
    return tuple(self._labels.names)

  @property
  def facts(self) -> dict[str, Any]:
    return {'kind': 'tfds', 'name': self._name, 'num_images': len(self)}


def _import_tfds(name: str) -> Any:
  try:
    import tensorflow_datasets as tfds
  except ImportError as error:
    raise UserError(
      f'data set {name!r} needs TFDS; pip install tensorflow-datasets (it '
      'works without TensorFlow), or give an image folder'
    ) from error
  return tfds


def _builder(tfds: Any, name: str, data_dir: PathLike | None) -> Any:
  """TFDS builder, which knows the data set but may not have it."""
  try:
    return tfds.builder(name, data_dir=data_dir)
  except Exception as error:  # of its own, ValueError, AssertionError
    reason = str(error).splitlines()[0]
    raise UserError(
      f'{name!r} is neither an image folder nor a TFDS data set ({reason})'
    ) from error


def _preparation(builder: Any, name: str, data_dir: PathLike | None) -> str:
  """Command that prepares the data set so that it can be read here."""
  command = f'tfds build {name} --file_format=array_record'
  if data_dir is not None:
    command += f' --data_dir={data_dir}'
  if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
    command += ' --manual_dir=FOLDER_WITH_ITS_DOWNLOADED_ARCHIVES'
  return f'`{command}` (needs TensorFlow: pip install tensorflow)'


def _labels(tfds: Any, builder: Any) -> Any:
  """The feature that names the classes."""
  features = dict(builder.info.features.items())
  images = isinstance(features.get('image'), tfds.features.Image)
  labels = features.get('label')
  if not images or not isinstance(labels, tfds.features.ClassLabel):
    raise UserError(
      f'TFDS data set {builder.info.full_name} has no `image` with a class '
      f'`label`; its features are {", ".join(features)}'
    )
  return labels


def _records(tfds: Any, builder: Any, split: str, prepare: str) -> Any:
  """Random access to {'image': encoded bytes, 'label': int, ...}."""
  try:
    return builder.as_data_source(
      split, decoders={'image': tfds.decode.SkipDecoding()}
    )
  except NotImplementedError as error:
    raise UserError(
      f'TFDS data set {builder.info.full_name} in {builder.data_path} is '
      f'stored as {builder.info.file_format.value}, which has no random '
      f'access; delete it and run {prepare}'
    ) from error
  except (KeyError, ValueError) as error:
    raise UserError(
      f'TFDS data set {builder.info.full_name} has no split {split!r}; it has '
      f'{", ".join(builder.info.splits)}'
    ) from error
