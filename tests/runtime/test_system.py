"""Memory as Linux and macOS report it, and a sentence for Windows."""

import os
import resource
import subprocess
import sys
import types

from softdimo_jax.runtime import memory, system

WINDOWS = """
import sys
sys.platform = 'win32'
sys.modules['resource'] = None
import softdimo_jax.runtime.cli
"""


def test_macos_does_not_tell_its_free_pages(monkeypatch):
  sizes = {'SC_PAGE_SIZE': 4096, 'SC_PHYS_PAGES': 10}

  def sysconf(name):
    if name not in sizes:
      raise ValueError('unrecognized configuration name')
    return sizes[name]

  monkeypatch.setattr(os, 'sysconf', sysconf)
  monkeypatch.setattr(os, 'sysconf_names', sizes)
  assert system.free_memory() == 40960


def test_free_memory_is_less_than_all():
  pages = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  assert 0 < system.free_memory() <= pages


def test_peak_is_in_bytes_on_both_systems(monkeypatch):
  usage = types.SimpleNamespace(ru_maxrss=2048)
  monkeypatch.setattr(resource, 'getrusage', lambda who: usage)
  monkeypatch.setattr(sys, 'platform', 'darwin')
  assert memory.peak() == 2048
  monkeypatch.setattr(sys, 'platform', 'linux')
  assert memory.peak() == 2048 * 1024


def test_windows_gets_one_sentence():
  done = subprocess.run(
    [sys.executable, '-c', WINDOWS], capture_output=True, text=True
  )
  assert done.returncode == 2
  assert done.stderr == (
    'error: softdimo_jax runs on Linux or macOS; on Windows, use WSL\n'
  )
