"""Prompts from text, JSON, CSV and parquet files or from TFDS captions."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from softdimo_jax.data.prompts import files as prompts
from softdimo_jax.data.tfds_data import PathLike, TfdsData
from softdimo_jax.errors import UserError

# Default fields of prompts, in order of preference.
_FIELDS = ('prompt', 'caption', 'text', 'captions')
# Formats that `prompts.read_prompts` reads, without a choice of fields.
_LISTS = ('.json', '.csv')
# Tables and archives whose lines are not prompts.
_UNREAD = ('.tsv', '.gz', '.zip')


@dataclasses.dataclass(frozen=True)
class PromptList:
  """Prompts in their original order, including repetitions.

  Attributes:
    texts: the prompts that are not empty.
    num_empty: number of empty prompts, which are omitted.
    fingerprint: JSON values that identify these prompts.
  """

  texts: tuple[str, ...]
  num_empty: int
  fingerprint: dict[str, Any]

  def __len__(self) -> int:
    return len(self.texts)


def read(
  where: str,
  *,
  field: str | None = None,
  split: str | None = None,
  data_dir: PathLike | None = None,
) -> PromptList:
  """Reads prompts from a file, a folder of parquet files, or a TFDS data set.

  Args:
    where: a text file with one prompt per line; a .jsonl file of objects; a
      .json file with a list; a .csv file with a column `text`; a .parquet file
      or a folder of them; or the name of a TFDS data set.
    field: field of the objects, parquet column, or TFDS feature
      ('captions/text'); by default the first of `prompt`, `caption`, `text`,
      `captions`. A field may hold several prompts.
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
    values = _of_file(path, field)
  else:
    values = _of_tfds(where, field, split or 'train', data_dir)
  return _listed(where, values)


def _looks_like_path(where: str) -> bool:
  suffixes = ('.txt', '.jsonl', '.parquet', *_LISTS, *_UNREAD)
  return where.startswith(('/', '.', '~')) or where.endswith(suffixes)


def _of_file(path: pathlib.Path, field: str | None) -> Iterable[Any]:
  if path.is_dir():
    files = sorted(path.glob('*.parquet'))
    if not files:
      raise UserError(f'{path} is a folder without parquet files')
    return _of_parquet(files, field)
  if path.suffix == '.parquet':
    return _of_parquet([path], field)
  if path.suffix in _UNREAD:
    raise UserError(
      f'{path} is not a list of prompts; pass text with one per line, .jsonl '
      'or .parquet'
    )
  if path.suffix == '.jsonl':
    return prompts.read_field(path, _FIELDS if field is None else (field,))
  if path.suffix in _LISTS and field is None:
    return prompts.read_prompts(path)
  if field is not None:
    raise UserError(f'{path} is plain text, which has no field {field!r}')
  return prompts.read_lines(path)


def _of_parquet(files: list[pathlib.Path], field: str | None) -> Iterator[Any]:
  try:
    import pyarrow  # pyright: ignore[reportMissingImports]: an extra
    import pyarrow.parquet  # pyright: ignore[reportMissingImports]: an extra
  except ImportError as error:
    raise UserError(
      f'{files[0]} needs pyarrow: pip install pyarrow, or pass the prompts as '
      'text or .jsonl'
    ) from error
  for file in files:
    try:
      names = pyarrow.parquet.read_schema(file).names
      column = _chosen(field, names, f'column of {file}')
      table = pyarrow.parquet.read_table(file, columns=[column])
    except (OSError, pyarrow.ArrowException) as error:
      reason = str(error).splitlines()[0]
      raise UserError(f'{file} cannot be read as parquet ({reason})') from error
    yield from table.column(0).to_pylist()


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


def _chosen(field: str | None, names: list[str], what: str) -> str:
  """The given field, or the first default field among `names`."""
  if field is not None:
    if field not in names:
      raise UserError(
        f'{field!r} is not a {what}; there are {", ".join(names) or "none"}'
      )
    return field
  for name in _FIELDS:
    if name in names:
      return name
  raise UserError(
    f'no {what} is called {", ".join(_FIELDS)}; name one with --field: '
    f'{", ".join(names) or "there is none"}'
  )


def _listed(where: str, values: Iterable[Any]) -> PromptList:
  """Prompts from values that are each a text, several texts, or None."""
  texts, num_empty, digest = [], 0, hashlib.sha256()
  for number, value in enumerate(values, start=1):
    found = list(_texts(value, f'record {number} of {where}'))
    num_empty += not found
    for text in found:
      if not text:
        num_empty += 1
        continue
      digest.update(_bytes(text, f'record {number} of {where}') + b'\0')
      texts.append(text)
  if not texts:
    raise UserError(f'{where} contains no prompts')
  fingerprint = {
    'name': pathlib.Path(where).name,
    'num_prompts': len(texts),
    'sha256': digest.hexdigest(),
  }
  return PromptList(tuple(texts), num_empty, fingerprint)


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
