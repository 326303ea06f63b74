"""Atomic files: absent, old or complete, never half written."""

import os
import pathlib
import tempfile


def write_atomically(path: str | os.PathLike[str], data: bytes | str) -> None:
  """Replaces the file at `path`; an interruption leaves the old one intact.

  Args:
    path: where to write; missing parent folders are created.
    data: the contents; text is written as UTF-8.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  contents = data.encode() if isinstance(data, str) else data
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
