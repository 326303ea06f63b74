"""Paths in a configuration, from the root of the file system.

A run is then the same, wherever the next command is started.
"""

import os
from collections.abc import Iterator
from typing import Any

from softdimo_jax.errors import UserError
from softdimo_jax.runtime import paths

# Every field of a section, or one: always a path.
_PATHS = (('pretrained', ''), ('data', 'tokens'), ('data', 'prompts'))
# A path or an address, which TFDS reads by itself.
_ADDRESSES = (('data', 'dir'),)
# A path, or a name: of a data set, on the Hub, of what is part of the package.
_NAMES = (
  ('data', 'name'),
  ('data', 'vocabulary'),
  ('rewards', 'clip_vocabulary'),
  ('rewards', 'bert_vocabulary'),
  ('rewards.weights', ''),
)
_NO_PATHS = ('', 'digits', 'shapes', 'openai', 'rule')


def make_absolute(config: Any, *, names: bool) -> None:
  """Changes the paths of a configuration in place.

  Args:
    config: ConfigDict or dictionary.
    names: whether to look for a path where a name may stand. A configuration
      that is stored was already looked at, from another folder.

  Raises:
    UserError: for an address such as gs://, or the home folder of nobody.
  """
  kinds = (_PATHS, _ADDRESSES, _NAMES if names else ())
  for kind in kinds:
    for section, field, path in _fields(config, kind):
      value = section[field]
      if not isinstance(value, str) or value in _NO_PATHS:
        continue
      if kind is _ADDRESSES and paths.is_address(value):
        continue
      try:
        if kind is not _NAMES or _is_path(value):
          section[field] = paths.absolute(value)
      except ValueError as error:
        raise UserError(f'config.{path}={value} {error}') from error


def _fields(
  config: Any, kind: tuple[tuple[str, str], ...]
) -> Iterator[tuple[Any, str, str]]:
  """(section, field, path of the field) of the fields that exist."""
  for where, name in kind:
    section = config
    for part in where.split('.'):
      section = section.get(part, {}) if hasattr(section, 'get') else {}
    if hasattr(section, 'keys'):
      for field in list(section.keys()):
        if name in ('', field):
          yield section, field, f'{where}.{field}'


def _is_path(value: str) -> bool:
  looks = value.startswith(('/', '.', '~')) or paths.is_address(value)
  return looks or os.path.exists(value)
