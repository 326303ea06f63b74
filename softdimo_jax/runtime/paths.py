"""Paths as users write them."""

import os
import pathlib
import re

# A letter alone is a drive of Windows, which nobody writes here.
_ADDRESS = re.compile(r'[A-Za-z][\w+.-]+:/')


def is_address(text: str) -> bool:
  """Whether this is an address of a bucket or a server: gs://, s3://, ..."""
  return _ADDRESS.match(text) is not None


def local(text: str) -> str:
  """The path with its `~` expanded.

  Raises:
    ValueError: for an address, or the home folder of nobody.
  """
  if is_address(text):
    raise ValueError(
      'is not a path on this machine: addresses such as gs:// and s3:// are '
      'neither read nor written; mount the bucket (gcsfuse, s3fs) or copy it '
      'first'
    )
  path = os.path.expanduser(text)
  if path.startswith('~'):
    raise ValueError(
      f'begins with a home folder that does not exist; write ./{text} for a '
      'name with ~'
    )
  return path


def absolute(text: str) -> str:
  """The same, from the root; errors as `local`."""
  return os.path.abspath(local(text))


def check_output(text: str, *, folder: bool) -> None:
  """Checks that a file or a folder can be written here.

  Raises:
    ValueError: if it is of the other kind or cannot be written.
  """
  path = pathlib.Path(text)
  if folder and path.exists() and not path.is_dir():
    raise ValueError('is a file; name a folder')
  if not folder and (path.is_dir() or text.endswith('/')):
    raise ValueError('is a folder; name a file in it')
  place = path if folder else path.parent
  while not place.exists() and place != place.parent:
    place = place.parent
  if not place.is_dir():
    raise ValueError(f'cannot be written: {place} is a file')
  if not os.access(place, os.W_OK | os.X_OK):
    raise ValueError(f'cannot be written: {place} is read-only')
