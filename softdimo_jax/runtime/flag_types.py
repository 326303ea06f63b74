"""Flags of the commands by what they mean: numbers, seeds, paths, pictures.

A value that cannot be used is refused when the command line is read.
"""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from softdimo_jax.runtime import bounds, paths
from softdimo_jax.runtime.bounds import Bounds

flags.disclaim_key_flags()  # --help lists the flags under the command.


def number(
  name: str, default: float | None, help: str, allowed: Bounds
) -> flags.FlagHolder[Any]:
  """A finite number in a range."""
  return _define(_Number(allowed), name, default, help)


def count(
  name: str, default: int | None, help: str, low: int = 1
) -> flags.FlagHolder[Any]:
  """A whole number from `low`."""
  return number(name, default, help, bounds.count(low))


def counts(name: str, help: str) -> flags.FlagHolder[Any]:
  """Whole numbers from 1, one each time that the flag is given, or None."""
  parser, serializer = _Number(bounds.count(1)), flags.ArgumentSerializer()
  return flags.DEFINE_multi(parser, serializer, name, None, help)


def seed(name: str, help: str) -> flags.FlagHolder[Any]:
  """A seed from 0 to 2^32 - 1; 0 by default."""
  return number(name, 0, help, bounds.SEED)


def number_list(name: str, help: str, allowed: Bounds) -> flags.FlagHolder[Any]:
  """Numbers in a range, separated by commas; None by default."""
  return _define(_Many(_Number(allowed)), name, None, help)


def path(
  name: str,
  default: str | None,
  help: str,
  *,
  required: bool = False,
) -> flags.FlagHolder[Any]:
  """A file or folder on this machine, or another name; `~` is expanded."""
  return _define(_Path(), name, default, help, required)


def path_list(name: str, help: str) -> flags.FlagHolder[Any]:
  """Paths separated by commas; none by default."""
  return _define(_Many(_Path()), name, (), help)


def tfds_folder(name: str, help: str) -> flags.FlagHolder[Any]:
  """A path, or an address that TFDS reads by itself."""
  return _define(_Path(address=True), name, None, help)


def output(
  name: str,
  default: str | None,
  help: str,
  *,
  required: bool = False,
  folder: Callable[[str], bool] = lambda path: True,
) -> flags.FlagHolder[Any]:
  """A folder to write; a file if `folder` says so of the path."""
  parser = _Path(is_output=True)
  holder = _define(parser, name, default, help, required)
  # A validator, since a default is parsed before anybody asks for it.
  flags.register_validator(name, lambda path: _writable(path, folder))
  return holder


def check_outputs(values: flags.FlagValues) -> None:
  """Checks that no output of the command line is one of its inputs.

  Raises:
    flags.IllegalFlagValueError: naming both flags.
  """
  found: dict[bool, list[tuple[str, str]]] = {False: [], True: []}
  for name in values:
    parser, given = values[name].parser, values[name].value
    if isinstance(parser, _Many):
      parser = parser.one
    if isinstance(parser, _Path) and given:
      for path in [given] if isinstance(given, str) else given:
        found[parser.is_output].append((name, os.path.realpath(path)))
  inputs = {path: name for name, path in found[False] if os.path.exists(path)}
  for name, path in found[True]:
    if path in inputs:
      raise flags.IllegalFlagValueError(
        f'--{name}={path} is the input --{inputs[path]}, which would be '
        'overwritten; choose another path'
      )


def picture(
  name: str, default: str, help: str, suffixes: Sequence[str]
) -> flags.FlagHolder[Any]:
  """A picture to write, whose suffix chooses its format."""

  def is_format(path: str) -> bool:
    if pathlib.Path(path).suffix.lower() not in suffixes:
      raise flags.ValidationError(
        f'must end with {" or ".join(suffixes)}, which says the format'
      )
    return True

  holder = output(name, default, help, folder=lambda path: False)
  flags.register_validator(name, is_format)
  return holder


def _writable(path: str | None, folder: Callable[[str], bool]) -> bool:
  if path == '':
    raise flags.ValidationError('is empty; name what to write')
  if path is not None:
    try:
      paths.check_output(path, folder=folder(path))
    except ValueError as error:
      raise flags.ValidationError(str(error)) from error
  return True


def _define(
  parser: flags.ArgumentParser,
  name: str,
  default: Any,
  help: str,
  required: bool = False,
) -> flags.FlagHolder[Any]:
  many = isinstance(parser, _Many)
  serializer = flags.ListSerializer(',') if many else flags.ArgumentSerializer()
  return flags.DEFINE(
    parser, name, default, help, serializer=serializer, required=required
  )


class _Number(flags.ArgumentParser):
  """Parses a number; a whole one is an int."""

  def __init__(self, allowed: Bounds):
    self._allowed = allowed
    self.syntactic_help = f'a {allowed}'

  def parse(self, argument: Any) -> Any:
    value = _number(argument) if isinstance(argument, str) else argument
    problem = self._allowed.problem(value)
    if problem:
      raise ValueError(problem)
    return int(value) if self._allowed.whole else float(value)

  def flag_type(self) -> str:
    return 'int' if self._allowed.whole else 'float'


def _number(text: str) -> int | float | str:
  """The number that the text is; the text if it is none."""
  # int() and float() also read 1_000 and digits of other scripts.
  if not text.isascii() or '_' in text:
    return text
  for kind in (int, float):
    try:
      return kind(text)
    except ValueError:
      continue
  return text


class _Path(flags.ArgumentParser):
  """Parses a path."""

  syntactic_help = 'a path; ~ is expanded'

  def __init__(self, address: bool = False, is_output: bool = False):
    self._address = address
    self.is_output = is_output

  def parse(self, argument: str) -> str:
    if self._address and paths.is_address(argument):
      return argument
    return paths.local(argument)

  def flag_type(self) -> str:
    return 'path'


class _Many(flags.ArgumentParser):
  """Parses values separated by commas."""

  def __init__(self, one: _Number | _Path):
    self.one = one
    self.syntactic_help = f'separated by commas, each {one.syntactic_help}'

  def parse(self, argument: Any) -> list[Any]:
    parts = argument.split(',') if isinstance(argument, str) else argument
    parsed = []
    for part in parts:
      part = part.strip() if isinstance(part, str) else part
      if part == '':
        raise ValueError(
          'has an empty entry; leave the flag out, or write one,two'
        )
      try:
        parsed.append(self.one.parse(part))
      except ValueError as error:
        raise ValueError(f'{part} {error}') from error
    return parsed

  def flag_type(self) -> str:
    return f'{self.one.flag_type()} list'
