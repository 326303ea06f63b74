"""One process at a time writes a workdir or an output."""

import contextlib
import errno
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator

from absl import logging

from softdimo_jax.errors import UserError
from softdimo_jax.runtime import storage

NAME = '.lock'
# File systems without locks.
_UNKNOWN = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextlib.contextmanager
def held(
  output: str | os.PathLike[str], *, beside: bool = False
) -> Iterator[None]:
  """Locks an output for the block; the lock dies with its process.

  The lock is that of a file, FOLDER/.lock or FILE.lock, which is removed in the
  end; one that a killed process left locks nothing. Over NFS, the server
  has to support locks, as it does by default.

  Args:
    output: a folder, or a file if its name has the suffix .npz.
    beside: whether the lock lies beside a folder too, because the folder
      appears at once.

  Raises:
    UserError: if another process holds it, or it cannot be written.
  """
  output = pathlib.Path(output).absolute()
  name = f'{output.name}.lock'
  beside = beside or output.suffix == '.npz'
  path = output.with_name(name) if beside else output / NAME
  new = not path.parent.exists()
  file = _locked(path, output)
  try:
    yield
  finally:
    # While it is still locked: the next process finds another file or none.
    with contextlib.suppress(OSError):
      path.unlink()
      if new:  # A mistake found in the block leaves no empty folder.
        path.parent.rmdir()
    os.close(file)


def _locked(path: pathlib.Path, output: pathlib.Path) -> int:
  """Descriptor of the locked file."""
  while True:
    with storage.written(output):
      path.parent.mkdir(parents=True, exist_ok=True)
      try:
        # Not inherited by other programs that this one starts.
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
      except FileNotFoundError:  # The last owner just removed its folder.
        continue
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      if _is_at(file, path):
        os.ftruncate(file, 0)
        os.write(
          file, f'process {os.getpid()} on {socket.gethostname()}'.encode()
        )
        return file
    except BlockingIOError as error:
      owner = os.read(file, 200).decode('utf-8', 'replace') or 'another process'
      os.close(file)
      raise UserError(
        f'{output} is being written by {owner}; wait until that ends, or '
        'choose another path'
      ) from error
    except OSError as error:
      if error.errno in _UNKNOWN:
        logging.warning(
          '%s cannot be locked (%s): let no other process write it',
          *(output, error.strerror),
        )
        return file
      os.close(file)
      raise
    os.close(file)  # Its last owner removed it meanwhile.


def _is_at(file: int, path: pathlib.Path) -> bool:
  try:
    return os.path.samestat(os.fstat(file), path.stat())
  except FileNotFoundError:
    return False
