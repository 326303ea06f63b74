"""Prompts from files, folders of parquet files, or TFDS captions."""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from softdimo_jax.data.images.names import natural
from softdimo_jax.data.prompts import tables
from softdimo_jax.data.prompts.tables import Row
from softdimo_jax.data.tfds_data import PathLike, TfdsData
from softdimo_jax.errors import UserError
from softdimo_jax.runtime.files import shown

# Default fields of prompts, and of the images that they belong to, in order of
# preference and in any case.
FIELDS = ('prompt', 'caption', 'text', 'captions')
_IDS = ('file_name', 'filename', 'image_id', 'id')


@dataclasses.dataclass(frozen=True)
class PromptList:
  """Prompts in their original order, including repetitions.

  Attributes:
    where: file, folder or data set that they come from.
    texts: the prompts that are not empty.
    places: where each of them is, e.g. 'line 3'.
    ids: name or number of the image of each prompt, '' where it has none; None
      if no prompt has one.
    num_empty: number of empty prompts, which are omitted.
    fingerprint: JSON values that identify these prompts.
  """

  where: str
  texts: tuple[str, ...]
  places: tuple[str, ...]
  ids: tuple[str, ...] | None
  num_empty: int
  fingerprint: dict[str, Any]

  def __len__(self) -> int:
    return len(self.texts)

  def __str__(self) -> str:
    left_out = f' ({self.num_empty} empty ones left out)'
    return (
      f'{len(self)} prompts of {self.where}{left_out if self.num_empty else ""}'
    )


def read(
  where: str,
  *,
  field: str | None = None,
  split: str | None = None,
  data_dir: PathLike | None = None,
) -> PromptList:
  """Reads prompts from a file, a folder of parquet files, or a TFDS data set.

  Args:
    where: a file that `tables.read` knows, a folder of parquet files, or the
      name of a TFDS data set.
    field: column, key of the objects, or TFDS feature ('captions/text'); by
      default the first of `FIELDS`, in any case. A field may hold several
      prompts.
    split: TFDS split, 'train' by default.
    data_dir: TFDS data folder.

  Raises:
    UserError: if there are no prompts or they cannot be read, naming the file
      and the line, record or column.
  """
  path = pathlib.Path(where).expanduser()
  if path.exists() or _looks_like_path(where):
    if split is not None or data_dir is not None:
      raise UserError(f'{where} is a file; split and data_dir are for TFDS')
    return read_file(where, field)
  values = _of_tfds(where, field, split or 'train', data_dir)
  rows = (Row('record', number, x) for number, x in enumerate(values, 1))
  return _listed(where, rows, None)


def typed(texts: Sequence[str], where: str) -> PromptList:
  """Prompts that are given directly, without ids.

  Raises:
    UserError: for one that is empty or not valid text.
  """
  for number, text in enumerate(texts, start=1):
    _bytes(text, f'prompt {number} of {where}')
    if not text.strip():
      raise UserError(
        f'prompt {number} of {where} is empty; say e.g. "a red cube on a table"'
      )
  places = tuple(f'prompt {number + 1}' for number in range(len(texts)))
  return PromptList(where, tuple(texts), places, None, 0, {})


def read_file(
  where: str | os.PathLike[str], field: str | None = None
) -> PromptList:
  """Reads prompts from a file or a folder of parquet files, as `read`."""
  path = pathlib.Path(where).expanduser()

  def choose(names: Sequence[str]) -> list[str]:
    column = _chosen(field, names, f'column of {shown(path)}')
    known = _keys(names, _IDS)
    return [column, *known[:1]]

  if not path.is_dir():
    return _listed(shown(path), tables.read(path, choose), field)
  files = [x for x in path.iterdir() if x.suffix.lower() == tables.PARQUET]
  if not files:
    raise UserError(f'{shown(path)} is a folder without parquet files')
  files = sorted(files, key=lambda file: natural(file.name))
  rows = (row for file in files for row in tables.read(file, choose))
  return _listed(shown(path), rows, field)


def _looks_like_path(where: str) -> bool:
  known = (*tables.TEXT[1:], *tables.JSON, *tables.DELIMITERS, tables.PARQUET)
  suffixes = (*known, '.gz', '.zip', '.yaml', '.yml', '.md', '.xlsx')
  return where.startswith(('/', '.', '~')) or where.lower().endswith(suffixes)


def _of_tfds(
  name: str, field: str | None, split: str, data_dir: PathLike | None
) -> Iterator[Any]:
  data = TfdsData.open(name, data_dir, 'a file of prompts')
  tfds, features = data.tfds, data.builder.info.features
  names = list(_text_features(tfds, features))
  if field is None and len(names) == 1:
    (field,) = names
  column = _chosen(field, names, f'text feature of TFDS data set {name}')
  images = {
    key: tfds.decode.SkipDecoding()
    for key, feature in features.items()
    if isinstance(feature, tfds.features.Image)
  }
  records = data.records(split, images)
  for index in range(len(records)):
    value = records[index]
    for part in column.split('/'):
      value = value[part]
    yield value


def _text_features(tfds: Any, feature: Any, path: str = '') -> Iterator[str]:
  """Paths of the text features, including those in dictionaries and lists."""
  if isinstance(feature, tfds.features.Text):
    yield path
  elif isinstance(feature, tfds.features.Sequence):
    yield from _text_features(tfds, feature.feature, path)
  elif isinstance(feature, tfds.features.FeaturesDict):
    for key, inner in feature.items():
      yield from _text_features(tfds, inner, f'{path}/{key}' if path else key)


def _chosen(field: str | None, names: Sequence[str], what: str) -> str:
  """The given field, or the first default field, among `names`."""
  found = _keys(names, FIELDS if field is None else (field,))
  if field is not None and field in names:
    return field
  if found:
    return found[0]
  there = ', '.join(names) or 'there is none'
  if field is not None:
    raise UserError(f'{field!r} is not a {what}; there are {there}')
  raise UserError(
    f'no {what} is called {", ".join(FIELDS)}; name one with --field: {there}'
  )


def _keys(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
  """Those of `names` that are wanted in any case, in the wanted order.

  Raises:
    UserError: if two names differ only in their case.
  """
  found = []
  for name in wanted:
    same = [x for x in names if x.lower() == name.lower()]
    if len(same) > 1:
      raise UserError(f'there are two columns {same[0]} and {same[1]}')
    found += same
  return found


def _listed(where: str, rows: Iterable[Row], field: str | None) -> PromptList:
  """Prompts of rows that each hold a text, several texts, or None."""
  texts, places, ids = [], [], []
  num_empty, digest = 0, hashlib.sha256()
  used = ''
  for row in rows:
    place = f'{row.unit} {row.number}'
    value, image, key = _split(row.value, field, f'{place} of {where}')
    used = used or key
    if key not in ('', used):
      raise UserError(
        f'{place} of {where} names its image by {key!r}, but earlier ones by '
        f'{used!r}; use one name everywhere'
      )
    found = list(_texts(value, f'{place} of {where}'))
    num_empty += not found
    for text in found:
      if not text:
        num_empty += 1
        continue
      digest.update(_bytes(text, f'{place} of {where}') + b'\0')
      texts.append(text)
      places.append(place)
      ids.append(image)
  if not texts:
    raise UserError(f'{where} contains no prompts')
  fingerprint = {
    'name': pathlib.Path(where).name,
    'num_prompts': len(texts),
    'sha256': digest.hexdigest(),
  }
  named = tuple(ids) if any(ids) else None
  return PromptList(
    where, tuple(texts), tuple(places), named, num_empty, fingerprint
  )


def _split(value: Any, field: str | None, what: str) -> tuple[Any, str, str]:
  """(text, name or number of its image or '', key of that or '') of a row."""
  if not isinstance(value, dict):
    if field is not None:
      raise UserError(f'{what} is plain text, which has no field {field!r}')
    return value, '', ''
  names = list(value)
  key = _chosen(field, names, f'field of {what}')
  image = next(iter(_keys(names, _IDS)), '')
  named = image and isinstance(value[image], str | int | float)
  name = str(value[image]).strip() if named else ''
  return value[key], name, image


def _texts(value: Any, what: str) -> Iterator[str]:
  if value is None:
    return
  if isinstance(value, str):
    yield value.strip()
  elif isinstance(value, bytes):
    try:
      yield value.decode('utf-8').strip()
    except UnicodeDecodeError as error:
      raise UserError(f'{what} is not UTF-8 text') from error
  elif hasattr(value, '__iter__') and not isinstance(value, dict):
    for inner in value:
      yield from _texts(inner, what)
  else:
    raise UserError(f'{what} is not text but {value!r:.40}')


def _bytes(text: str, what: str) -> bytes:
  try:
    return text.encode('utf-8')
  except UnicodeEncodeError as error:
    raise UserError(
      f'{what} is not valid Unicode text (character {error.start} is an '
      'unpaired surrogate); repair or remove it'
    ) from error
