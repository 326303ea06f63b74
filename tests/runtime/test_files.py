import os

import pytest

from softdimo_jax.errors import UserError
from softdimo_jax.runtime.files import read_text, unique_json, write_atomically


def test_writes_text_and_bytes_into_new_folders(tmp_path):
  write_atomically(tmp_path / 'a' / 'b.txt', 'grün')
  write_atomically(tmp_path / 'c.bin', b'\x00\x01')
  assert (tmp_path / 'a' / 'b.txt').read_text('utf-8') == 'grün'
  assert (tmp_path / 'c.bin').read_bytes() == b'\x00\x01'


def test_failure_keeps_the_old_file_and_leaves_nothing(tmp_path, monkeypatch):
  path = tmp_path / 'results.json'
  write_atomically(path, 'old')

  def interrupted(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(os, 'replace', interrupted)
  with pytest.raises(KeyboardInterrupt):
    write_atomically(path, 'new')
  assert path.read_text() == 'old'
  assert list(tmp_path.iterdir()) == [path]


def test_text_is_utf8_with_or_without_a_mark(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_bytes('\ufeffgrün\r\nblau\rrot\n'.encode())
  assert read_text(path) == 'grün\nblau\nrot\n'
  for data, message in (
    (b'a\n\xed\xa0\x80', r'not UTF-8 text \(line 2, byte 2\)'),  # a surrogate
    (b'a\nb\n\0', 'line 3 contains a zero byte'),
    ('a'.encode('utf-16'), 'is UTF-16'),
  ):
    path.write_bytes(data)
    with pytest.raises(UserError, match=message):
      read_text(path)
  with pytest.raises(UserError, match='nowhere cannot be read: No such file'):
    read_text(tmp_path / 'nowhere')


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' twice"),
    ('[' * 100_000, 'nested too deeply'),
    ('{', 'Expecting'),
  ],
)
def test_json_that_is_in_doubt_is_refused(text, message):
  with pytest.raises(ValueError, match=message):
    unique_json(text)
