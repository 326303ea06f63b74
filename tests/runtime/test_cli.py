"""Whatever ends a command is said in one sentence."""

import errno
import os
import types

import jax
import ml_collections
import pytest

from softdimo_jax.errors import UserError
from softdimo_jax.runtime import cli


@pytest.fixture(autouse=True)
def debug(monkeypatch):
  """The flag --debug, without a command line."""
  flag = types.SimpleNamespace(value=False)
  monkeypatch.setattr(cli, '_DEBUG', flag)
  return flag


@pytest.mark.parametrize(
  ('error', 'words'),
  [
    (UserError('two\n  lines'), 'error: two lines\n'),
    (OSError(errno.ENOSPC, 'x', '/full/x'), '/full/x cannot be written (No sp'),
    (OSError(errno.ENOSPC, 'x', '/full/x'), 'free some space'),
    (ValueError(os.strerror(errno.EDQUOT)), 'a file cannot be written'),
    (PermissionError(errno.EACCES, 'Permission denied', '/x'), '/x: Perm'),
    (ConnectionError(), 'error: ConnectionError'),
    (MemoryError('Unable to allocate 9 TiB'), 'not enough memory (Unable'),
    (UnicodeDecodeError('utf-8', b'\xff', 0, 1, 'bad'), 'not UTF-8'),
    (
      jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: 9 GB\nx'),
      'smaller batch',
    ),
    (jax.errors.JaxRuntimeError('INTERNAL: x'), 'JaxRuntimeError'),
    (KeyError('field'), 'KeyError in runtime/cli.py:'),
  ],
)
def test_errors_are_one_sentence(error, words, capsys):
  def main(argv):
    raise error

  with pytest.raises(SystemExit) as stop:
    cli.guard(main, [])
  said = capsys.readouterr().err
  assert stop.value.code == 2
  assert words in said and said.count('\n') == 1 and said.startswith('error: ')


@pytest.mark.parametrize(
  'read',
  [lambda config: config.sampling.steps, lambda config: config['sampling']],
)
def test_a_field_that_a_configuration_lacks_is_named(read, capsys):
  with pytest.raises(SystemExit) as stop:
    cli.guard(lambda argv: read(ml_collections.ConfigDict()), [])
  assert stop.value.code == 2
  assert "has no field 'sampling'; add it" in capsys.readouterr().err


def test_ctrl_c_has_the_code_of_signals(capsys):
  def main(argv):
    raise KeyboardInterrupt

  with pytest.raises(SystemExit) as stop:
    cli.guard(main, [])
  assert stop.value.code == 75
  assert capsys.readouterr().err.startswith('stopped by SIGINT; run the same')


def test_a_defect_names_its_place(capsys):
  with pytest.raises(SystemExit):
    cli.guard(cli.no_arguments, [None, object])
  assert 'belongs to no flag' in capsys.readouterr().err
  with pytest.raises(SystemExit):
    cli.guard(cli.no_arguments, None)
  assert 'TypeError in runtime/cli.py:' in capsys.readouterr().err


def test_debug_shows_the_traceback(capsys, debug):
  debug.value = True
  with pytest.raises(SystemExit):
    cli.guard(cli.no_arguments, None)
  said = capsys.readouterr().err
  assert 'Traceback' in said and said.splitlines()[-1].startswith('error: ')
