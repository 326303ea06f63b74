"""The image files of a folder, for every command that reads one."""

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Iterator

from softdimo_jax.data.images.names import natural
from softdimo_jax.errors import UserError
from softdimo_jax.runtime.files import shown

SUFFIXES = ('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.webp')
# Other formats of images, by suffix and by their first bytes.
_UNREAD = (
  *('.avif', '.bmp', '.gif', '.heic', '.heif', '.jp2', '.jxl', '.pbm'),
  *('.pgm', '.ppm', '.tga', '.tif', '.tiff'),
)
_UNREAD_STARTS = (b'GIF8', b'II*\0', b'MM\0*', b'\0\0\0\x0cJXL ')
_STARTS = (b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n')
_HEAD = 16  # bytes that tell a format
_SHOWN = 3  # names in a message


@dataclasses.dataclass(frozen=True)
class Listing:
  """Files below a folder, by name relative to it, in natural order.

  Attributes:
    images: JPEG, PNG and WebP files, by suffix in any case or by content.
    unread: images in formats that are not read.
    others: everything else, without hidden folders and hidden files that are
      not called like an image.
  """

  images: tuple[str, ...]
  unread: tuple[str, ...]
  others: tuple[str, ...]

  @property
  def left_out(self) -> tuple[str, ...]:
    """Names of all files that are not read."""
    return self.unread + self.others


def find(root: str | os.PathLike[str]) -> Listing:
  """Lists a folder and its subfolders, links included.

  Raises:
    UserError: if a folder cannot be listed.
  """
  root = pathlib.Path(root)
  found: dict[str, list[str]] = {'images': [], 'unread': [], 'others': []}
  for name, is_file in _walk(root, '', frozenset()):
    found[_kind(root / name) if is_file else 'others'].append(name)
  return Listing(
    **{kind: tuple(sorted(names, key=natural)) for kind, names in found.items()}
  )


def subfolders(root: str | os.PathLike[str]) -> tuple[str, ...]:
  """Names of the folders in a folder that are not hidden, in natural order.

  Raises:
    UserError: if the folder cannot be listed.
  """
  names = (x.name for x in _entries(pathlib.Path(root)) if x.is_dir())
  visible = (name for name in names if not name.startswith('.'))
  return tuple(sorted(visible, key=natural))


def listed(names: Iterable[str]) -> str:
  """The number of names, and the first of them."""
  names = tuple(names)
  first = ', '.join(shown(name) for name in names[:_SHOWN])
  return f'{len(names)} ({first}{", ..." if len(names) > _SHOWN else ""})'


def _walk(
  root: pathlib.Path, folder: str, above: frozenset[tuple[int, int]]
) -> Iterator[tuple[str, bool]]:
  """(name, whether it is a file) of all that is not a folder to enter."""
  status = os.stat(root / folder)
  above |= {(status.st_dev, status.st_ino)}
  for entry in _entries(root / folder):
    name = f'{folder}/{entry.name}' if folder else entry.name
    if entry.is_dir():
      status = os.stat(entry.path)  # not `entry.stat`, which has no inode
      if (status.st_dev, status.st_ino) in above:  # a link that leads up
        yield name, False
      elif not entry.name.startswith('.'):
        yield from _walk(root, name, above)
    elif not entry.name.startswith('.') or _named_image(entry.name):
      yield name, entry.is_file()


def _entries(folder: pathlib.Path) -> list[os.DirEntry[str]]:
  try:
    with os.scandir(folder) as entries:
      return list(entries)
  except OSError as error:
    raise UserError(
      f'folder {shown(folder)} cannot be read: {error.strerror}'
    ) from error


def _named_image(name: str) -> bool:
  return name.lower().endswith(SUFFIXES)


def _kind(path: pathlib.Path) -> str:
  """Field of `Listing` to which a file belongs."""
  if path.name.startswith('.'):
    return 'others'
  if _named_image(path.name):
    return 'images'
  head = _head(path)
  if head.startswith(_STARTS) or (head[:4], head[8:12]) == (b'RIFF', b'WEBP'):
    return 'images'
  if path.name.lower().endswith(_UNREAD) or head.startswith(_UNREAD_STARTS):
    return 'unread'
  return 'others'


def _head(path: pathlib.Path) -> bytes:
  try:
    with path.open('rb') as file:
      return file.read(_HEAD)
  except OSError as error:
    raise UserError(
      f'{shown(path)} cannot be read: {error.strerror}'
    ) from error
