"""Which files of a folder are images, and in which order."""

import os

import numpy as np
import PIL.Image
import pytest

from softdimo_jax.data.images import files
from softdimo_jax.data.images.names import natural
from softdimo_jax.errors import UserError
from softdimo_jax.runtime.files import read_bytes, shown

STRANGE = os.fsdecode(b'caf\xe9.png')  # Latin-1


def save(path, kind='PNG'):
  path.parent.mkdir(parents=True, exist_ok=True)
  PIL.Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(path, kind)


def test_numbers_sort_as_numbers():
  names = ['a/10.png', 'a/9.png', 'a1/0.png', '02.png', '2.png', '10.png']
  assert sorted(names, key=natural) == [
    *('02.png', '2.png', '10.png', 'a/9.png', 'a/10.png', 'a1/0.png')
  ]
  names = ['x', '1', 'x1', '٣', '']
  assert sorted(names, key=natural) == ['', '1', 'x', 'x1', '٣']


def test_images_are_told_by_suffix_or_content(tmp_path):
  for name in ('0.JFIF', '1.jpe', '2', '3.dat', '4.gif'):
    save(tmp_path / name, 'JPEG')
  save(tmp_path / '5', 'WEBP')
  save(tmp_path / '6', 'PNG')
  found = files.find(tmp_path)
  assert found.images == ('0.JFIF', '1.jpe', '2', '3.dat', '4.gif', '5', '6')
  assert found.left_out == ()


def test_what_is_left_out_is_named(tmp_path):
  save(tmp_path / '0.png')
  save(tmp_path / '.cache' / '1.png')
  (tmp_path / '.export.json').write_text('{}')
  save(tmp_path / '._0.png')
  save(tmp_path / 'gif', 'GIF')
  save(tmp_path / 'a.BMP', 'BMP')
  (tmp_path / 'notes').write_text('')
  (tmp_path / 'broken.png').symlink_to('nowhere')
  os.mkfifo(tmp_path / 'pipe.png')
  found = files.find(tmp_path)
  assert found.images == ('0.png',)
  assert found.unread == ('a.BMP', 'gif')
  assert found.others == ('._0.png', 'broken.png', 'notes', 'pipe.png')
  assert files.listed(found.left_out) == '6 (a.BMP, gif, ._0.png, ...)'


def test_linked_folders_are_followed_and_loops_named(tmp_path):
  save(tmp_path / 'elsewhere' / 'inner' / '0.png')
  root = tmp_path / 'set'
  root.mkdir()
  (root / 'a').symlink_to(tmp_path / 'elsewhere')
  (root / 'b').symlink_to(tmp_path / 'elsewhere')
  (tmp_path / 'elsewhere' / 'inner' / 'again').symlink_to('..')
  found = files.find(root)
  assert found.images == ('a/inner/0.png', 'b/inner/0.png')
  assert found.others == ('a/inner/again', 'b/inner/again')
  assert files.subfolders(root) == ('a', 'b')


def test_names_that_are_not_utf8(tmp_path):
  save(tmp_path / STRANGE)
  (name,) = files.find(tmp_path).images
  assert shown(name) == r'caf\xe9.png'
  assert read_bytes(tmp_path / name)[:4] == b'\x89PNG'
  with pytest.raises(UserError, match=r'caf\\xe9\.png cannot be read: No such'):
    read_bytes(tmp_path / 'x' / name)


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
  def refuse(path):
    raise PermissionError(13, 'Permission denied')

  monkeypatch.setattr(os, 'scandir', refuse)
  with pytest.raises(UserError, match='cannot be read: Permission denied'):
    files.find(tmp_path)
