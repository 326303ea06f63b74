"""Prompt files: one prompt per line, lists, tables, or GenEval records.

A GenEval record is {tag, include: [{class, count, color?, position?}],
exclude?: [{class, count}], prompt}; `position` is [relation, index], relative
to an earlier entry of `include`.
"""

import csv
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from softdimo_jax.errors import UserError

Record = Mapping[str, Any]

# Columns of a .csv file of captions.
_CAPTION, _IMAGE_ID = 'text', 'image_id'


def read_prompts(path: str | os.PathLike[str]) -> list[str]:
  """Reads prompts in the format that the file's suffix names.

  Args:
    path: .jsonl, the field `prompt` of each line; .json, a list of strings, as
      in HPSv2; .csv, the column `text`, as in text2image-benchmark's COCO
      captions; otherwise text with one prompt per line, empty lines skipped.

  Raises:
    UserError: if the file is missing, empty, not UTF-8, or has no prompts in
      this format.
  """
  suffix = pathlib.Path(path).suffix
  if suffix == '.jsonl':
    return [record['prompt'] for record in _read_json_lines(path)]
  if suffix == '.json':
    return _read_json_list(path)
  if suffix == '.csv':
    return [row[_CAPTION] for row in _read_csv(path)]
  return [line for line in read_lines(path) if line]


def read_lines(path: str | os.PathLike[str]) -> list[str]:
  """Stripped lines of a text file; errors as `read_prompts`."""
  return [line for _, line in _lines(path, empty=True)]


def read_field(
  path: str | os.PathLike[str], fields: Sequence[str]
) -> list[Any]:
  """Reads a JSON-lines file: the first of the fields that each object has.

  Raises:
    UserError: if the file cannot be read, or an object has none of the fields.
  """
  return [
    record[next(field for field in fields if field in record)]
    for record in _read_json_lines(path, fields, text=False)
  ]


def captions_of(path: str | os.PathLike[str]) -> dict[str, str] | None:
  """Captions in a .csv file by its column `image_id`, without leading zeros.

  Returns None for other files or without this column; errors as
  `read_prompts`.
  """
  if pathlib.Path(path).suffix != '.csv':
    return None
  rows = _read_csv(path)
  if _IMAGE_ID not in rows[0]:
    return None
  return {
    row[_IMAGE_ID].strip().lstrip('0') or '0': row[_CAPTION] for row in rows
  }


def read_records(path: str | os.PathLike[str]) -> list[Record]:
  """Reads records in GenEval's format.

  Raises:
    UserError: if the file cannot be read or a record is invalid, naming the
      record.
  """
  records = _read_json_lines(path)
  for number, record in enumerate(records, start=1):
    problem = problem_of(record)
    if problem:
      raise UserError(f'record {number} of {path} {problem}')
  return records


def problem_of(record: Record) -> str | None:
  """Why a record is not in GenEval's format; None if it is."""
  for field in ('tag', 'prompt'):
    if not isinstance(record.get(field), str):
      return f'has no text {field!r}'
  include, exclude = record.get('include', []), record.get('exclude', [])
  if not isinstance(include, list) or not isinstance(exclude, list):
    return "must have lists under 'include' and 'exclude'"
  for entry in include + exclude:
    if not _is_entry(entry):
      return f'must name a class and a count of 1 or more, got {entry}'
  for index, entry in enumerate(include):
    position = entry.get('position')
    if position is not None and not _is_position(position, index):
      return f'has a position that refers to no earlier entry, got {position}'
  return None


def _is_entry(entry: Any) -> bool:
  return (
    isinstance(entry, dict)
    and isinstance(entry.get('class'), str)
    and isinstance(entry.get('count'), int)
    and entry['count'] >= 1
  )


def _is_position(position: Any, index: int) -> bool:
  return (
    isinstance(position, list | tuple)
    and len(position) == 2
    and isinstance(position[0], str)
    and isinstance(position[1], int)
    and 0 <= position[1] < index
  )


def _read_json_lines(
  path: str | os.PathLike[str],
  fields: Sequence[str] = ('prompt',),
  *,
  text: bool = True,
) -> list[Record]:
  """Objects with one of the fields, which must hold text if `text` is set."""
  records = []
  for number, line in _lines(path):
    try:
      record = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
      raise UserError(
        f'line {number} of {path} is not JSON: {error}'
      ) from error
    found = [f for f in fields if isinstance(record, dict) and f in record]
    if not found or (text and not isinstance(record[found[0]], str)):
      names = ' or '.join(map(repr, fields))
      raise UserError(f'line {number} of {path} has no text {names}')
    records.append(record)
  return records


def _read_json_list(path: str | os.PathLike[str]) -> list[str]:
  text = '\n'.join(line for _, line in _lines(path))
  try:
    prompts = json.loads(text)
  except json.JSONDecodeError as error:
    raise UserError(f'{path} is not JSON: {error}') from error
  if (
    not isinstance(prompts, list)
    or not prompts
    or not all(isinstance(prompt, str) for prompt in prompts)
  ):
    raise UserError(f'{path} must be a JSON list of strings')
  return prompts


def _read_csv(path: str | os.PathLike[str]) -> list[dict[str, str]]:
  rows = list(csv.DictReader(line for _, line in _lines(path)))
  if not rows or any(not row.get(_CAPTION) for row in rows):
    raise UserError(
      f'{path} must have a header with the column {_CAPTION!r} and a caption '
      'in every row'
    )
  return rows


def _lines(
  path: str | os.PathLike[str], *, empty: bool = False
) -> list[tuple[int, str]]:
  """(number, stripped text) of each line; empty ones if `empty` is set.

  Raises:
    UserError: if the file cannot be read or has empty lines only.
  """
  try:
    # The file may begin with a byte order mark.
    text = pathlib.Path(path).read_text('utf-8-sig')
  except UnicodeDecodeError as error:
    raise UserError(
      f'{path} is not UTF-8 text (byte {error.start}); save it as UTF-8'
    ) from error
  except OSError as error:
    raise UserError(
      f'prompt file {path} cannot be read: {error.strerror}'
    ) from error
  # Not `splitlines`, which also splits at characters that captions contain.
  numbered = enumerate(text.removesuffix('\n').split('\n'), start=1)
  lines = [(number, line.strip()) for number, line in numbered]
  if not any(line for _, line in lines):
    raise UserError(f'{path} contains no prompts')
  return [(number, line) for number, line in lines if line or empty]
