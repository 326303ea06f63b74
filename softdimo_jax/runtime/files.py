"""Atomic files: absent, old or complete, never half written."""

import os
import pathlib
import tempfile

from softdimo_jax.runtime import storage


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
