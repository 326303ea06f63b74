"""Images in one folder per class."""

import hashlib
import os
import pathlib
import re
from typing import Any

from absl import logging

from softdimo_jax.data.images import files
from softdimo_jax.data.images.source import ImageSource
from softdimo_jax.errors import UserError
from softdimo_jax.runtime.files import read_bytes, shown

# Names of splits, which are not classes.
TRAIN, HELD_OUT = 'train', ('test', 'val', 'valid', 'validation')


class ImageFolder(ImageSource):
  """Images in `root/CLASS`, at any depth; `files.find` lists them.

  Classes and files are in natural order: 2 comes before 10.
  """

  def __init__(self, root: str | os.PathLike[str], channels: int = 3):
    """Lists the files; warns of files that are left out.

    Args:
      root: folder with one subfolder per class.
      channels: C, 1 or 3.

    Raises:
      UserError: if the folder does not exist, or a class has no images.
    """
    super().__init__(channels)
    self._root = pathlib.Path(root)
    if not self._root.is_dir():
      raise UserError(f'image folder {shown(self._root)} does not exist')
    listing = files.find(self._root)
    self._folders = files.subfolders(self._root)
    numbers = {folder: label for label, folder in enumerate(self._folders)}
    places = [name.partition('/') for name in listing.images]
    self._files = [
      (name, numbers[folder])
      for name, (folder, inside, _) in zip(listing.images, places, strict=True)
      if inside
    ]
    self._check_classes()
    self._warn_of_numbers()
    outside = tuple(folder for folder, inside, _ in places if not inside)
    self.left_out = tuple(map(shown, listing.left_out + outside))
    if self.left_out:
      logging.warning(
        '%s: files that are not images of a class are left out: %s',
        shown(self._root),
        files.listed(self.left_out),
      )

  def _check_classes(self) -> None:
    if not self._folders:
      raise UserError(
        f'image folder {shown(self._root)} contains no images; they must be in '
        f'{shown(self._root)}/CLASS, one folder per class'
      )
    if set(self._folders) <= {TRAIN, *HELD_OUT}:
      raise UserError(
        f'image folder {shown(self._root)} contains splits, not classes: give '
        f'{shown(self._root / self._folders[0])}'
      )
    filled = {label for _, label in self._files}
    for label, folder in enumerate(self._folders):
      if label not in filled:
        raise UserError(
          f'image folder {shown(self._root / folder)} contains no images '
          f'({", ".join(files.SUFFIXES)}); every folder in '
          f'{shown(self._root)} is a class'
        )

  def _warn_of_numbers(self) -> None:
    """Says where a class that is called by a number has another label."""
    if not all(re.fullmatch('[0-9]+', folder) for folder in self._folders):
      return
    moved = [x for x in enumerate(self._folders) if x[0] != int(x[1])]
    if moved:
      logging.warning(
        '%s: labels count the class folders, so that the class %s has the '
        'label %d',
        *(shown(self._root), moved[0][1], moved[0][0]),
      )

  def __len__(self) -> int:
    return len(self._files)

  def read(self, index: int) -> tuple[bytes, int]:
    file, label = self._files[index]
    return read_bytes(self._root / file), label

  def name(self, index: int) -> str:
    return shown(self._files[index][0])

  @property
  def classes(self) -> tuple[str, ...]:
    return tuple(map(shown, self._folders))

  @property
  def fingerprint(self) -> dict[str, Any]:
    listing = '\n'.join(file for file, _ in self._files)
    return {
      'kind': 'folder',
      'num_images': len(self),
      'files_sha256': hashlib.sha256(os.fsencode(listing)).hexdigest(),
    }
