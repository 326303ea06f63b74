"""A converted checkpoint on disk.

  DIR/params/      parameters (Orbax)
  DIR/model.json   family, constructor options of the module, source

The folder appears whole or not at all.
"""

import contextlib
import dataclasses
import json
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn

from softdimo_jax.convert import registry
from softdimo_jax.errors import UserError
from softdimo_jax.runtime import checkpoint
from softdimo_jax.types import Params

_MODEL, _PARAMS = 'model.json', 'params'


@dataclasses.dataclass(frozen=True)
class Source:
  """What a checkpoint was converted from.

  Attributes:
    weights: file, folder or Hub id, as it was asked for.
    file: name of the official file.
    sha256: its checksum, in hexadecimal.
  """

  weights: str
  file: str
  sha256: str


def check_new(folder: pathlib.Path) -> None:
  """Raises UserError if there is something at `folder` already."""
  if folder.exists():
    raise UserError(f'{folder} exists; choose another --out or delete it')


def save_converted(
  folder: pathlib.Path,
  family: str,
  options: Mapping[str, Any],
  params: Params,
  source: Source,
) -> None:
  """Writes a converted checkpoint.

  Args:
    folder: where to; must not exist.
    family: name in the registry.
    options: of the module's constructor.
    params: of the module.
    source: where they come from.

  Raises:
    UserError: if the folder exists or cannot be made.
  """
  model = {
    'family': family,
    'options': dict(options),
    'source': dataclasses.asdict(source),
  }
  with _appearing(folder.absolute()) as partial:
    checkpoint.save_params(partial / _PARAMS, params)
    text = json.dumps(model, indent=2)
    (partial / _MODEL).write_text(f'{text}\n', 'utf-8')


def is_converted(folder: pathlib.Path) -> bool:
  """Whether `folder` is one that `save_converted` wrote."""
  return (folder / _MODEL).exists()


def load_converted(
  folder: pathlib.Path, family: str | None = None
) -> tuple[nn.Module, Params]:
  """Module and parameters of a converted checkpoint.

  Args:
    folder: that `python -m softdimo_jax.convert` wrote.
    family: the only one that serves, where one alone does.

  Raises:
    UserError: if there is no such folder, it holds another family, or a file
      in it is broken.
  """
  module = load_module(folder, family)
  return module, checkpoint.load_params(folder.absolute() / _PARAMS)


def load_module(folder: pathlib.Path, family: str | None = None) -> nn.Module:
  """Module of a converted checkpoint; arguments as of `load_converted`."""
  folder = folder.absolute()
  model = _read_model(folder)
  try:
    found = model['family']
    module = registry.build(found, model['options'])
  except (AttributeError, KeyError, TypeError) as error:
    raise UserError(
      f'{folder / _MODEL} names no model that this version knows '
      f'({type(error).__name__}: {error})'
    ) from error
  if family not in (None, found):
    raise UserError(f'{folder} holds a {found} where a {family} is wanted')
  return module


def _read_model(folder: pathlib.Path) -> Any:
  try:
    return json.loads((folder / _MODEL).read_text('utf-8'))
  except (FileNotFoundError, NotADirectoryError) as error:
    raise UserError(
      f'{folder} is no converted checkpoint (it has no {_MODEL}); make one: '
      'python -m softdimo_jax.convert'
    ) from error
  except (OSError, ValueError) as error:
    raise UserError(f'{folder / _MODEL} cannot be read ({error})') from error


@contextlib.contextmanager
def _appearing(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """A folder to fill, which gets its name once it is whole."""
  check_new(folder)
  # Beside the target: a rename is atomic within one file system only.
  partial = folder.with_name(f'.{folder.name}.partial')
  shutil.rmtree(partial, ignore_errors=True)  # Of a run that was killed.
  try:
    partial.mkdir(parents=True)
    yield partial
    partial.rename(folder)
  except OSError as error:
    raise UserError(f'{folder} cannot be written ({error})') from error
  finally:
    shutil.rmtree(partial, ignore_errors=True)
