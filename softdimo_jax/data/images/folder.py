"""Images in one folder per class."""

import hashlib
import os
import pathlib
from typing import Any

from softdimo_jax.data.images.source import ImageSource
from softdimo_jax.errors import UserError

SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp')


class ImageFolder(ImageSource):
  """Images in `root/CLASS/*`; classes and files are sorted by name."""

  def __init__(self, root: str | os.PathLike[str], channels: int = 3):
    """Lists the files.

    Args:
      root: folder with one subfolder per class. Hidden files and suffixes
        outside `SUFFIXES` are ignored.
      channels: C, 1 or 3.

    Raises:
      UserError: if the folder does not exist, or a class has no images.
    """
    super().__init__(channels)
    self._root = pathlib.Path(root)
    if not self._root.is_dir():
      raise UserError(f'image folder {self._root} does not exist')
    self._files: list[tuple[str, int]] = []
    for label, folder in enumerate(_visible(self._root, is_class=True)):
      files = _visible(self._root / folder, is_class=False)
      if not files:
        raise UserError(
          f'image folder {self._root / folder} contains no images '
          f'({", ".join(SUFFIXES)}); every folder in {self._root} is a class'
        )
      self._files += [(f'{folder}/{file}', label) for file in files]
    if not self._files:
      raise UserError(
        f'image folder {self._root} contains no images; they must be in '
        f'{self._root / "CLASS"}, one folder per class'
      )

  def __len__(self) -> int:
    return len(self._files)

  def read(self, index: int) -> tuple[bytes, int]:
    file, label = self._files[index]
    return (self._root / file).read_bytes(), label

  def name(self, index: int) -> str:
    return self._files[index][0]

  @property
  def fingerprint(self) -> dict[str, Any]:
    listing = '\n'.join(file for file, _ in self._files)
    return {
      'kind': 'folder',
      'num_images': len(self),
      'files_sha256': hashlib.sha256(listing.encode()).hexdigest(),
    }


def _visible(folder: pathlib.Path, *, is_class: bool) -> tuple[str, ...]:
  """Sorted names of the class folders, or of the images."""
  with os.scandir(folder) as entries:
    return tuple(
      sorted(
        entry.name
        for entry in entries
        if not entry.name.startswith('.')
        and (
          entry.is_dir()
          if is_class
          else entry.name.lower().endswith(SUFFIXES) and entry.is_file()
        )
      )
    )
