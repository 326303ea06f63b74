"""Disks that are full or read-only: one sentence with the path."""

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

from softdimo_jax.errors import UserError

_SPACE = 'free some space'
_RIGHTS = 'make it writable or choose another one'
_ADVICE = {
  errno.ENOSPC: _SPACE,
  errno.EDQUOT: _SPACE,
  errno.EROFS: _RIGHTS,
  errno.EACCES: _RIGHTS,
  errno.EPERM: _RIGHTS,
}
# Those that only writing meets.
OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@contextlib.contextmanager
def written(path: str | os.PathLike[str]) -> Iterator[None]:
  """Reports that `path` cannot be written, whatever library writes it.

  Args:
    path: file or folder that the block writes.

  Raises:
    UserError: if the disk is full, or the path must not be written.
  """
  try:
    yield
  except UserError:
    raise
  except Exception as error:
    number = refusal(error)
    if number is None and not isinstance(error, OSError):
      raise
    raise UserError(sentence(error, number, path)) from error


def refusal(error: BaseException) -> int | None:
  """The errno with which the system refused to write; None for other errors.

  Libraries in C++ raise errors of their own, which only quote the system's.
  """
  for cause in _chain(error):
    if isinstance(cause, OSError) and cause.errno in _ADVICE:
      return cause.errno
    for number in _ADVICE:
      if os.strerror(number) in str(cause):
        return number
  return None


def sentence(
  error: BaseException,
  number: int | None,
  path: str | bytes | os.PathLike[str] | None = None,
) -> str:
  """What cannot be written, why, and what to do.

  Args:
    error: whose file is named if there is no path.
    number: from `refusal`.
    path: what was written.
  """
  if path is None:
    files = (getattr(cause, 'filename', None) for cause in _chain(error))
    path = next((x for x in files if isinstance(x, str | bytes)), 'a file')
  reason = str(error) if number is None else os.strerror(number)
  advice = _ADVICE.get(number or 0, 'free some space or choose another path')
  return (
    f'{os.fsdecode(path)} cannot be written ({reason}); {advice}, and run the '
    'same command again: what is finished is kept'
  )


def set_aside(path: pathlib.Path) -> pathlib.Path:
  """Renames a damaged file or folder, and returns its new path."""
  target, number = path.with_name(f'{path.name}.damaged'), 1
  while target.exists():
    number += 1
    target = path.with_name(f'{path.name}.damaged-{number}')
  return path.rename(target)


def _chain(error: BaseException) -> Iterator[BaseException]:
  """The error, what caused it, and so on."""
  seen: set[int] = set()
  cause: BaseException | None = error
  while cause is not None and id(cause) not in seen:
    seen.add(id(cause))
    yield cause
    cause = cause.__cause__ or cause.__context__
