"""Runs the commands: in this process, which is fast, or in one of their own."""

import collections
import contextlib
import dataclasses
import functools
import importlib
import io
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from unittest import mock

import pytest
from absl import flags
from absl.testing import flagsaver

from softdimo_jax.errors import USER_ERROR_CODE
from softdimo_jax.experiment import sampling_flags
from softdimo_jax.runtime import cli

ROOT = pathlib.Path(__file__).parents[1]
FLAGS = flags.FLAGS


def _flags_in(module) -> dict[str, flags.Flag]:
  """Flags of a library module, which serve several commands."""
  return {
    holder.name: FLAGS[holder.name]
    for holder in vars(module).values()
    if isinstance(holder, flags.FlagHolder)
  }


_SHARED, _EVERYWHERE = _flags_in(sampling_flags), _flags_in(cli)
_FOUND = collections.defaultdict(dict)  # by module, whoever imported it


@dataclasses.dataclass(frozen=True)
class Result:
  """What a command leaves behind.

  Attributes:
    code: exit code.
    out: what it printed.
    err: what it printed on stderr.
  """

  code: int
  out: str
  err: str


def call(module: str, *arguments: str) -> Result:
  """Runs `python -m softdimo_jax.MODULE` in this process."""
  command, defined = _load(module)
  argv = [module, *map(str, arguments)]
  out, err, code = io.StringIO(), io.StringIO(), 0
  with (
    _registered(defined),
    _signals_restored(),
    mock.patch.object(sys, 'argv', argv),  # config_flags reads it
    contextlib.redirect_stdout(out),
    contextlib.redirect_stderr(err),
  ):
    try:
      cli.guard(command.main, cli.parse(argv))
    except SystemExit as stop:
      code = stop.code or 0
  return Result(code, out.getvalue(), err.getvalue())


def process(module: str, *arguments: str, **environment: str) -> Result:
  """Runs it in a process of its own, as a user does."""
  done = subprocess.run(
    [sys.executable, '-m', f'softdimo_jax.{module}', *map(str, arguments)],
    env=os.environ | environment,
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  return Result(done.returncode, done.stdout, done.stderr)


def succeeds(result: Result) -> Result:
  """Asserts exit code 0."""
  assert result.code == 0, result.err[-2000:]
  return result


def fails(result: Result, *words: str) -> None:
  """Asserts one clear sentence on stderr, exit code 2, no traceback."""
  assert result.code == USER_ERROR_CODE, result.err[-2000:]
  assert 'Traceback' not in result.err
  errors = [
    line for line in result.err.splitlines() if line.startswith('error: ')
  ]
  assert len(errors) == 1, result.err
  for word in words:
    assert word in errors[0]


def trained(config: str):
  """A fixture for a test module: the workdir of a finished run."""

  @pytest.fixture(scope='module')
  def workdir(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp('trained') / 'run'
    succeeds(call('main', f'--config={config}', f'--workdir={folder}'))
    return folder

  return workdir


def flags_of(module: str) -> dict[str, flags.Flag]:
  """Flags of `python -m softdimo_jax.MODULE` by name."""
  return _load(module)[1]


@functools.cache
def _load(name: str):
  """(module of a command, its flags by name).

  Commands use one name for different flags, so that only those of the command
  that runs are registered.
  """
  path = f'softdimo_jax.{name}'
  if name in ('convert', 'parity'):
    path += '.__main__'
  for module, found in _unregister().items():
    _FOUND[module] |= found
  command = importlib.import_module(path)
  defined = _FOUND[path] | _EVERYWHERE
  for found in _unregister().values():
    defined |= found
  if any(value is sampling_flags for value in vars(command).values()):
    defined |= _SHARED
  return command, defined


def _unregister() -> dict[str, dict[str, flags.Flag]]:
  """Takes away the flags of this package: by module and name."""
  taken = {
    module: {flag.name: flag for flag in defined}
    for module, defined in FLAGS.flags_by_module_dict().items()
    if module.startswith('softdimo_jax.')
  }
  for defined in taken.values():
    for name in defined:
      delattr(FLAGS, name)
  return taken


@contextlib.contextmanager
def _registered(defined: dict[str, flags.Flag]) -> Iterator[None]:
  """Flags that exist in this block only, with their defaults."""
  for name, flag in defined.items():
    FLAGS[name] = flag
  values = flagsaver.save_flag_values()
  try:
    yield
  finally:
    flagsaver.restore_flag_values(values)
    for name in defined:
      delattr(FLAGS, name)


@contextlib.contextmanager
def _signals_restored() -> Iterator[None]:
  before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
  try:
    yield
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
