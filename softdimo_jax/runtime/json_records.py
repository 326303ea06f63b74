"""Small JSON files with their own checksum, which shows damage."""

import hashlib
import json
import os
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

from softdimo_jax.runtime.files import unique_json, write_atomically

_CHECKSUM = 'crc32'


def write(path: str | os.PathLike[str], record: Mapping[str, Any]) -> None:
  """Writes a JSON object and its checksum, atomically.

  Raises:
    UserError: if the file cannot be written.
  """
  stored = {**record, _CHECKSUM: _checksum(record)}
  write_atomically(path, json.dumps(stored, indent=2) + '\n')


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
  """The object of a file, without its checksum.

  Files of earlier versions have none.

  Raises:
    ValueError: if the file is not a JSON object, or differs from its checksum.
  """
  record = json_object(path)
  if record.pop(_CHECKSUM, None) not in (None, _checksum(record)):
    raise ValueError('it does not match its checksum')
  return record


def json_object(path: str | os.PathLike[str]) -> dict[str, Any]:
  """The JSON object in a file.

  Raises:
    ValueError: if it contains anything else, or a key twice.
  """
  found = unique_json(pathlib.Path(path).read_bytes())
  if not isinstance(found, dict):
    raise ValueError(f'it contains {found!r:.20}, not an object')
  return found


def digest(value: Any) -> str:
  """SHA-256 of a JSON value, whatever the order of its keys."""
  return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _checksum(record: Mapping[str, Any]) -> int:
  return zlib.crc32(json.dumps(record, sort_keys=True).encode())
