"""Files: text that is surely UTF-8, and atomic writing.

A written file is absent, old or complete, never half written.
"""

import json
import os
import pathlib
import tempfile
from typing import Any

from softdimo_jax.errors import UserError
from softdimo_jax.runtime import storage

_UTF16 = (b'\xff\xfe', b'\xfe\xff')


def shown(name: str | os.PathLike[str]) -> str:
  r"""A file name as valid text: bytes that are not UTF-8 become \xNN."""
  return os.fsencode(name).decode('utf-8', 'backslashreplace')


def read_bytes(path: str | os.PathLike[str]) -> bytes:
  """Contents of a file.

  Raises:
    UserError: if it cannot be read.
  """
  try:
    return pathlib.Path(path).read_bytes()
  except OSError as error:
    raise UserError(
      f'{shown(path)} cannot be read: {error.strerror}'
    ) from error


def read_text(path: str | os.PathLike[str]) -> str:
  r"""Text of a UTF-8 file, with or without a byte order mark.

  Lines end with \n, whatever the file has.

  Raises:
    UserError: if it cannot be read or is not UTF-8 text, naming the line.
  """
  return decoded(path, read_bytes(path))


def decoded(path: str | os.PathLike[str], data: bytes) -> str:
  """Text of the contents of a file; errors as `read_text`."""
  if data.startswith(_UTF16):
    raise UserError(
      f'{shown(path)} is UTF-16, not UTF-8 text; save it as UTF-8'
    )
  if b'\0' in data:
    line = _line(data, data.index(b'\0'))
    raise UserError(
      f'{shown(path)} is binary, not text: line {line} contains a zero byte'
    )
  try:
    text = data.decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise UserError(
      f'{shown(path)} is not UTF-8 text (line {_line(data, error.start)}, byte '
      f'{error.start}); save it as UTF-8'
    ) from error
  return text.replace('\r\n', '\n').replace('\r', '\n')


def unique_json(text: str | bytes) -> Any:
  """`json.loads` that does not drop a value whose key occurs again.

  Raises:
    ValueError: if the text is not JSON, an object has a key twice, or lists are
      nested too deeply.
  """
  try:
    return json.loads(text, object_pairs_hook=_unique)
  except RecursionError as error:
    raise ValueError('its lists or objects are nested too deeply') from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) < len(pairs):
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    raise ValueError(f'an object has the key {twice!r} twice')
  return found


def _line(data: bytes, place: int) -> int:
  return data.count(b'\n', 0, place) + 1


def write_atomically(path: str | os.PathLike[str], data: bytes | str) -> None:
  """Replaces the file at `path`; an interruption leaves the old one intact.

  Args:
    path: where to write; missing parent folders are created.
    data: the contents; text is written as UTF-8.

  Raises:
    UserError: if the file cannot be written.
  """
  path = pathlib.Path(path)
  with storage.written(path):
    _write(path, data.encode() if isinstance(data, str) else data)


def _write(path: pathlib.Path, contents: bytes) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  # Beside the target: a rename is atomic only within one file system.
  handle, partial = tempfile.mkstemp(
    dir=path.parent, prefix=f'.{path.name}.', suffix='.partial'
  )
  try:
    with os.fdopen(handle, 'wb') as file:
      file.write(contents)
    pathlib.Path(partial).chmod(0o644)
    os.replace(partial, path)
  except BaseException:
    os.unlink(partial)
    raise
