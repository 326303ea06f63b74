"""Damage of files, and the sentences about disks that cannot be written."""

import errno
import os
import random

import pytest
from absl import logging

from softdimo_jax.errors import UserError
from softdimo_jax.runtime import (
  checkpoint,  # noqa: F401, whose filter is tested
  checksums,
  storage,
)


@pytest.fixture
def folder(tmp_path):
  (tmp_path / 'd').mkdir()
  (tmp_path / 'a').write_bytes(bytes(range(256)))
  (tmp_path / 'd' / 'b').write_bytes(b'b')
  checksums.seal(tmp_path)
  return tmp_path


def test_whole_and_unsealed_folders_are_not_damaged(folder, tmp_path_factory):
  assert checksums.damage(folder) == ''
  (folder / 'd' / 'more').write_text('of another program')
  assert checksums.damage(folder) == ''
  unsealed = tmp_path_factory.mktemp('old')
  (unsealed / 'a').write_text('a')
  assert checksums.damage(unsealed) == ''
  assert checksums.damage(unsealed / 'absent') == ''


def test_every_flipped_bit_and_truncation_is_found(folder):
  rng = random.Random(0)
  for name in ('a', 'd/b'):
    path = folder / name
    whole = path.read_bytes()
    for _ in range(20):
      place = rng.randrange(len(whole))
      flipped = bytearray(whole)
      flipped[place] ^= 1 << rng.randrange(8)
      path.write_bytes(flipped)
      assert checksums.damage(folder) == f'{name} does not match its checksum'
      path.write_bytes(whole[:place])
      assert checksums.damage(folder)
    path.unlink()
    assert checksums.damage(folder) == f'{name} is missing'
    path.write_bytes(whole)
  assert checksums.damage(folder) == ''


def test_sealed_folders_inside_a_folder_are_checked(folder):
  outer = folder / 'outer'
  (outer / 'state').mkdir(parents=True)
  (outer / 'state' / 'a').write_text('a')
  checksums.seal(outer / 'state')
  assert checksums.damage(outer) == ''
  (outer / 'state' / 'a').write_text('b')
  assert checksums.damage(outer) == 'state/a does not match its checksum'


@pytest.mark.parametrize('text', ['', '{', '[1]', '{"a": "0"}', b'\xff\x00'])
def test_a_damaged_seal_is_damage(folder, text):
  data = text if isinstance(text, bytes) else text.encode()
  (folder / checksums.FILE).write_bytes(data)
  assert checksums.damage(folder)


@pytest.mark.parametrize(
  'error',
  [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    OSError(errno.EROFS, os.strerror(errno.EROFS), '/x/y'),
    PermissionError(errno.EACCES, os.strerror(errno.EACCES)),
    OSError('2048 requested and 0 written'),  # numpy
    ValueError(  # tensorstore
      'Error writing local file "/x/y": [OS error 28: ENOSPC '
      f'{os.strerror(errno.ENOSPC)}]'
    ),
  ],
)
def test_a_disk_that_cannot_be_written_is_one_sentence(error, tmp_path):
  def fail():
    try:
      raise error
    except Exception as cause:
      raise RuntimeError('in a thread') from cause

  with (
    pytest.raises(UserError) as caught,
    storage.written(tmp_path / 'file'),
  ):
    if isinstance(error, OSError):
      raise error
    fail()
  assert str(tmp_path / 'file') in str(caught.value)
  assert 'run the same command again' in str(caught.value)


def test_other_errors_are_not_hidden(tmp_path):
  with pytest.raises(ZeroDivisionError), storage.written(tmp_path):
    _ = 1 / 0


def test_nothing_that_is_set_aside_is_overwritten(tmp_path):
  for text in 'abc':
    path = tmp_path / 'params'
    path.mkdir()
    (path / 'array').write_text(text)
    storage.set_aside(path)
  found = {x.name: (x / 'array').read_text() for x in tmp_path.iterdir()}
  assert found == {
    'params.damaged': 'a',
    'params.damaged-2': 'b',
    'params.damaged-3': 'c',
  }


def test_errors_of_disks_are_not_logged_with_tracebacks(caplog):
  for number, logged in ((errno.ENOSPC, False), (errno.EINVAL, True)):
    try:
      raise OSError(number, os.strerror(number))
    except OSError:
      logging.exception('in a thread of Orbax')
    assert bool(caplog.records) == logged


def test_files_are_read_once_while_they_stay_the_same(folder, monkeypatch):
  reads = []
  monkeypatch.setattr(checksums, '_read', lambda path: reads.append(path) or '')
  long_ago = 10**18
  for name in ('a', 'd/b'):
    os.utime(folder / name, ns=(long_ago, long_ago))
  for _ in range(3):
    checksums.damage(folder)
  assert len(reads) == 2
  os.utime(folder / 'a', ns=(long_ago, long_ago + 1))
  checksums.damage(folder)
  assert len(reads) == 3
