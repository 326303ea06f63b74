"""GenEval's records: prompts with the objects that they ask for.

A record is {tag, include: [{class, count, color?, position?}],
exclude?: [{class, count}], prompt}; `position` is [relation, index], relative
to an earlier entry of `include`.
"""

import os
import pathlib
from collections.abc import Collection, Mapping
from typing import Any

from softdimo_jax.data.prompts import tables
from softdimo_jax.errors import UserError

Record = Mapping[str, Any]

_FIELDS = ('tag', 'include', 'exclude', 'prompt')
_OF_ENTRIES = ('class', 'count', 'color', 'position')


def read_records(path: str | os.PathLike[str]) -> list[Record]:
  """Reads records in GenEval's format.

  Raises:
    UserError: if the file cannot be read or a record is invalid, naming the
      record.
  """
  records = []
  for row in tables.read(pathlib.Path(path), list):
    if row.value == '':  # an empty line
      continue
    problem = (
      problem_of(row.value) if isinstance(row.value, dict) else 'is no object'
    )
    if problem:
      raise UserError(f'{row.unit} {row.number} of {path} {problem}')
    records.append(row.value)
  if not records:
    raise UserError(f'{path} contains no prompts')
  return records


def problem_of(record: Record) -> str | None:
  """Why a record is not in GenEval's format; None if it is."""
  if unknown := unknown_key(record, _FIELDS):
    return unknown
  for field in ('tag', 'prompt'):
    if not isinstance(record.get(field), str):
      return f'has no text {field!r}'
  include, exclude = record.get('include', []), record.get('exclude', [])
  if not isinstance(include, list) or not isinstance(exclude, list):
    return "must have lists under 'include' and 'exclude'"
  if not include + exclude:
    return "asks for nothing: 'include' and 'exclude' are empty"
  for entry in include + exclude:
    if isinstance(entry, dict) and (unknown := unknown_key(entry, _OF_ENTRIES)):
      return unknown
    if not _is_entry(entry):
      return (
        'must name a class and a count of 1 or more (and a colour, if any, as '
        f'text), got {entry}'
      )
  for index, entry in enumerate(include):
    position = entry.get('position')
    if position is not None and not _is_position(position, index):
      return f'has a position that refers to no earlier entry, got {position}'
  return None


def unknown_key(found: Record, known: Collection[str]) -> str | None:
  """What an object has that nothing would read; None if all is known."""
  name = next((x for x in found if x not in known), None)
  return name and f'has an unknown key {name!r}; known are {", ".join(known)}'


def _is_entry(entry: Any) -> bool:
  return (
    isinstance(entry, dict)
    and isinstance(entry.get('class'), str)
    and type(entry.get('count')) is int  # true is an int, too
    and entry['count'] >= 1
    and isinstance(entry.get('color', ''), str)
  )


def _is_position(position: Any, index: int) -> bool:
  return (
    isinstance(position, list | tuple)
    and len(position) == 2
    and isinstance(position[0], str)
    and isinstance(position[1], int)
    and 0 <= position[1] < index
  )
