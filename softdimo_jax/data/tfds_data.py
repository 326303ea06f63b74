"""Prepared TFDS data sets, read without TensorFlow or downloads."""

import dataclasses
import os
from typing import Any

from softdimo_jax.errors import UserError

PathLike = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class TfdsData:
  """A data set that has been prepared on this machine.

  Attributes:
    tfds: the `tensorflow_datasets` module.
    builder: TFDS builder of the data set.
    preparation: command that prepares the data set in a readable format.
  """

  tfds: Any
  builder: Any
  preparation: str

  @classmethod
  def open(
    cls, name: str, data_dir: PathLike | None, instead: str
  ) -> 'TfdsData':
    """Opens a data set.

    Args:
      name: e.g. 'imagenet2012' or 'coco_captions'.
      data_dir: folder it was prepared in; TFDS's default if None.
      instead: the caller's alternative to TFDS, e.g. 'an image folder'.

    Raises:
      UserError: if TFDS is not installed, or does not know the data set, or it
        has not been prepared.
    """
    tfds = _import_tfds(name, instead)
    builder = _builder(tfds, name, data_dir, instead)
    prepare = _preparation(builder, name, data_dir)
    if not builder.info.splits:
      raise UserError(
        f'TFDS data set {name} is not in {builder.data_path}; run {prepare}'
      )
    return cls(tfds, builder, prepare)

  def records(self, split: str, decoders: dict[str, Any]) -> Any:
    """Random access to records, each a dictionary by feature.

    Args:
      split: e.g. 'train' or 'train[:10%]'.
      decoders: by feature, those that replace the default.

    Raises:
      UserError: if the split does not exist or has no random access.
    """
    info = self.builder.info
    try:
      return self.builder.as_data_source(split, decoders=decoders)
    except NotImplementedError as error:
      raise UserError(
        f'TFDS data set {info.full_name} in {self.builder.data_path} is '
        f'stored as {info.file_format.value}, which has no random access; '
        f'delete it and run {self.preparation}'
      ) from error
    except (KeyError, ValueError) as error:
      raise UserError(
        f'TFDS data set {info.full_name} has no split {split!r}; it has '
        f'{", ".join(info.splits)}'
      ) from error


def _import_tfds(name: str, instead: str) -> Any:
  try:
    import tensorflow_datasets as tfds  # pyright: ignore[reportMissingImports]: an extra
  except ImportError as error:
    raise UserError(
      f'data set {name!r} needs TFDS; pip install tensorflow-datasets (it '
      f'works without TensorFlow), or pass {instead}'
    ) from error
  return tfds


def _builder(
  tfds: Any, name: str, data_dir: PathLike | None, instead: str
) -> Any:
  """TFDS builder of a data set that may not be prepared yet."""
  try:
    return tfds.builder(name, data_dir=data_dir)
  except Exception as error:  # TFDS's own, ValueError, AssertionError
    reason = str(error).splitlines()[0]
    raise UserError(
      f'{name!r} is neither {instead} nor a TFDS data set ({reason})'
    ) from error


def _preparation(builder: Any, name: str, data_dir: PathLike | None) -> str:
  """Command that prepares the data set in a readable format."""
  command = f'tfds build {name} --file_format=array_record'
  if data_dir is not None:
    command += f' --data_dir={data_dir}'
  if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
    command += ' --manual_dir=FOLDER_WITH_ITS_DOWNLOADED_ARCHIVES'
  return f'`{command}` (needs TensorFlow: pip install tensorflow)'
