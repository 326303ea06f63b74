import os

import pytest

from softdimo_jax.runtime.files import write_atomically


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
