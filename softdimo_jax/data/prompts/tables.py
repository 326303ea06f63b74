"""Rows of text, JSON, CSV and parquet files, the form that prompts come in.

The kind of a file follows from its contents and from its suffix in any case.
Whatever fits no kind is refused, because a wrong guess turns other data into
prompts.
"""

import csv
import io
import json
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from softdimo_jax.errors import UserError
from softdimo_jax.runtime.files import decoded, read_bytes, shown, unique_json

# Suffixes of plain text, one prompt per line; '' is a file without one.
TEXT = ('', '.txt', '.text', '.prompt', '.prompts', '.caption', '.captions')
JSON = ('.json', '.jsonl', '.ndjson')
# Delimiters by suffix; a header may show that it is another one.
DELIMITERS = {'.csv': ',', '.tsv': '\t', '.tab': '\t'}
PARQUET = '.parquet'
_PARQUET_START = b'PAR1'
# First bytes of archives, spreadsheets, documents and images.
_BINARY = (b'\x1f\x8b', b'PK\x03\x04', b'%PDF', b'\x89PNG', b'\xff\xd8\xff')

# First characters of plain text that is something else: broken JSON, pages, a
# pointer of Git LFS.
_OTHER = re.compile(
  r'[\[{]\s*(?:["\'{\n]|$)|<!doctype|<html|<\?xml|{\\rtf'
  r'|version https://git-lfs',
  re.IGNORECASE,
)
_WORD = re.compile(r'\w+')

# Chooses the columns to read from the names of all columns.
Choose = Callable[[Sequence[str]], Sequence[str]]


class Row(NamedTuple):
  """One row.

  Attributes:
    unit: what `number` counts, 'line' or 'record'.
    number: from 1.
    value: a dictionary by column, or a single value.
  """

  unit: str
  number: int
  value: Any


def read(path: pathlib.Path, choose: Choose) -> Iterator[Row]:
  """Reads the rows of a file.

  Args:
    path: a file.
    choose: called with the names of the columns of CSV and parquet files;
      raises UserError if there is none to read.

  Raises:
    UserError: if the file cannot be read or is not a table or a list, naming
      the line.
  """
  suffix = path.suffix.lower()
  data = b'' if suffix == PARQUET else read_bytes(path)
  if suffix == PARQUET or data.startswith(_PARQUET_START):
    return _parquet(path, choose)
  if data.startswith(_BINARY):
    raise UserError(
      f'{shown(path)} is binary, not a list of prompts; unpack or convert it'
    )
  text = decoded(path, data)
  if suffix in DELIMITERS:
    return _table(path, text, DELIMITERS[suffix], choose)
  if suffix in JSON:
    return _json(path, text)
  if suffix not in TEXT:
    raise UserError(
      f'{shown(path)} is not a list of prompts; pass text with one per line '
      '(.txt), .jsonl, .json, .csv, .tsv or .parquet'
    )
  if _is_json(text):
    return _json(path, text)
  return _lines(path, text, choose)


def _is_json(text: str) -> bool:
  """Whether plain text is in fact a JSON list, or JSON lines."""
  first = text.lstrip().partition('\n')[0]
  if not first.startswith(('[', '{')):
    return False
  for part, kinds in ((first, dict), (text, list)):
    try:
      if isinstance(json.loads(part), kinds):
        return True
    except (ValueError, RecursionError):
      continue
  return False


def _lines(path: pathlib.Path, text: str, choose: Choose) -> Iterator[Row]:
  # Not `splitlines`, which also splits at characters that captions contain.
  lines = text.rstrip('\n').split('\n')
  if _OTHER.match(text.lstrip()):
    raise UserError(
      f'{shown(path)} is not a list of prompts: it begins with {lines[0]!r:.50}'
    )
  if all('\t' in line for line in lines if line.strip()) and text.strip():
    raise UserError(
      f'{shown(path)} has columns, since each line has a tab; name it .tsv, '
      'with the names of the columns in the first line'
    )
  if len(lines) > 1 and _chosen(choose, [lines[0].strip()]):
    raise UserError(
      f'{shown(path)} begins with the name of a column, {lines[0].strip()!r}; '
      'remove this line, or name the file .csv'
    )
  for delimiter in (',', '\t'):
    names = lines[0].split(delimiter)
    words = len(names) > 1 and all(map(_WORD.fullmatch, names))
    if words and _chosen(choose, names):
      raise UserError(
        f'{shown(path)} begins like a table with the columns '
        f'{", ".join(names)}; name it .csv or .tsv'
      )
  for number, line in enumerate(lines, start=1):
    yield Row('line', number, line)


def _json(path: pathlib.Path, text: str) -> Iterator[Row]:
  try:
    values = unique_json(text)
  except ValueError as error:
    if text.lstrip().startswith('['):
      raise UserError(f'{shown(path)} is not JSON: {error}') from error
    values = None
  if isinstance(values, list):
    for number, value in enumerate(values, start=1):
      yield Row('record', number, value)
    return
  if isinstance(values, dict) and '\n' in text.strip():
    raise UserError(
      f'{shown(path)} must be a JSON list of strings or objects, or one object '
      'per line'
    )
  for number, line in enumerate(text.split('\n'), start=1):
    if line.strip():
      yield Row('line', number, _object(path, number, line))


def _object(path: pathlib.Path, number: int, line: str) -> dict[str, Any]:
  try:
    value = unique_json(line)
  except ValueError as error:
    raise UserError(
      f'line {number} of {shown(path)} is not JSON: {error}'
    ) from error
  if not isinstance(value, dict):
    raise UserError(f'line {number} of {shown(path)} is not a JSON object')
  return value


def _table(
  path: pathlib.Path, text: str, delimiter: str, choose: Choose
) -> Iterator[Row]:
  first = text.lstrip('\n').partition('\n')[0]
  known = (delimiter, *(x for x in (',', '\t', ';') if x != delimiter))
  delimiter = next(
    (x for x in known if _chosen(choose, _fields(first, x))), delimiter
  )
  records = _records(path, text, delimiter)
  header = [name.strip() for name in next(records, (0, []))[1]]
  choose(header)
  for number, fields in records:
    if len(fields) != len(header):
      raise UserError(
        f'line {number} of {shown(path)} has {len(fields)} fields, but the '
        f'header has {len(header)}; put quotes around texts with {delimiter!r}'
      )
    yield Row('line', number, dict(zip(header, fields, strict=True)))


def _records(
  path: pathlib.Path, text: str, delimiter: str
) -> Iterator[tuple[int, list[str]]]:
  """(first line, fields) of the header and of each row that is not empty."""
  lines, start, width = text.split('\n'), 1, 0
  file = io.StringIO(text, newline='')
  reader = csv.reader(file, delimiter=delimiter, strict=True)
  while True:
    try:
      fields = next(reader, None)
    except csv.Error as error:
      raise UserError(
        f'the row that begins in line {start} of {shown(path)} cannot be read '
        f'({error}); is a quote not closed, or not doubled inside a text?'
      ) from error
    if fields is None:
      return
    width = width or len(fields)
    for number in range(start + 1, reader.line_num + 1):
      if len(_fields(lines[number - 1], delimiter)) == width:
        raise UserError(
          f'line {number} of {shown(path)} looks like a row, but is inside the '
          f'quotes that open in line {start}; close them, or remove the line '
          'break from the text'
        )
    if fields:
      yield start, fields
    start = reader.line_num + 1


def _fields(line: str, delimiter: str) -> list[str]:
  try:
    found = next(csv.reader([line], delimiter=delimiter), [])
  except csv.Error:  # a line that is too long to be a header
    return []
  return [field.strip() for field in found]


def _chosen(choose: Choose, names: Sequence[str]) -> bool:
  try:
    return bool(choose(names))
  except UserError:
    return False


def _parquet(path: pathlib.Path, choose: Choose) -> Iterator[Row]:
  try:
    import pyarrow  # pyright: ignore[reportMissingImports]: an extra
    import pyarrow.parquet  # pyright: ignore[reportMissingImports]: an extra
  except ImportError as error:
    raise UserError(
      f'{shown(path)} needs pyarrow: pip install pyarrow, or pass the prompts '
      'as text or .jsonl'
    ) from error
  try:
    names = list(choose(pyarrow.parquet.read_schema(path).names))
    table = pyarrow.parquet.read_table(path, columns=names)
  except (OSError, pyarrow.ArrowException) as error:
    reason = str(error).splitlines()[0]
    raise UserError(
      f'{shown(path)} cannot be read as parquet ({reason})'
    ) from error
  values = (x for batch in table.to_batches() for x in batch.to_pylist())
  for number, value in enumerate(values, start=1):
    yield Row('record', number, value)
