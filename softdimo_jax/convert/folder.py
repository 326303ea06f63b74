"""A converted checkpoint on disk.

  DIR/params/      parameters (Orbax)
  DIR/model.json   family, constructor options of the module, source

The folder is created complete or not at all.
"""

import contextlib
import dataclasses
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn

from softdimo_jax.convert import registry
from softdimo_jax.errors import UserError
from softdimo_jax.runtime import checkpoint, checksums, json_records
from softdimo_jax.types import Params

_MODEL, _PARAMS = 'model.json', 'params'


@dataclasses.dataclass(frozen=True)
class Source:
  """The source of a converted checkpoint.

  Attributes:
    weights: file, folder or Hub id, as given.
    file: name of the official file.
    sha256: checksum of that file, in hexadecimal.
    tree: part of the file, if one was chosen.
  """

  weights: str
  file: str
  sha256: str
  tree: str | None = None


def check_new(folder: pathlib.Path) -> None:
  """Raises UserError if `folder` exists."""
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
    folder: folder to create; must not exist.
    family: name in the registry.
    options: constructor options of the module.
    params: parameters of the module.
    source: source of the checkpoint.

  Raises:
    UserError: if the folder exists or cannot be created.
  """
  model = {
    'family': family,
    'options': dict(options),
    'source': dataclasses.asdict(source),
  }
  with _appearing(folder.absolute()) as partial:
    checkpoint.save_params(partial / _PARAMS, params)
    json_records.write(partial / _MODEL, model)


def is_converted(folder: pathlib.Path) -> bool:
  """Whether `save_converted` wrote `folder`."""
  return (folder / _MODEL).exists()


def identity(folder: pathlib.Path) -> str:
  """Digest of what a converted checkpoint was made from.

  Converting the same file again gives the same digest.

  Raises:
    UserError: if the folder was not converted, or is damaged.
  """
  model = _read_model(folder)
  try:
    source = {x: model['source'].get(x) for x in ('sha256', 'tree')}
    made_from = [model['family'], model['options'], source]
  except (AttributeError, KeyError, TypeError) as error:
    raise UserError(f'{folder / _MODEL} is damaged ({error!r})') from error
  return json_records.digest(made_from)


def load_converted(
  folder: pathlib.Path, family: str | None = None
) -> tuple[nn.Module, Params]:
  """Module and parameters of a converted checkpoint.

  Args:
    folder: output of `python -m softdimo_jax.convert`.
    family: the required family; None for any.

  Raises:
    UserError: if the folder does not exist, contains another family, or a file
      in it is damaged.
  """
  module, params = load_module(folder, family), folder.absolute() / _PARAMS
  reason = checksums.damage(params)
  if reason:
    raise UserError(
      f'{folder} is damaged ({params.name}/{reason}); delete it and convert '
      'the checkpoint again'
    )
  return module, checkpoint.load_params(params)


def load_module(folder: pathlib.Path, family: str | None = None) -> Any:
  """Module of a converted checkpoint; arguments as in `load_converted`."""
  folder = folder.absolute()
  model = _read_model(folder)
  try:
    stored = model['family']
    module = registry.build(stored, model['options'])
  except (AttributeError, KeyError, TypeError) as error:
    raise UserError(
      f'{folder / _MODEL} names a model unknown to this version '
      f'({type(error).__name__}: {error})'
    ) from error
  if family not in (None, stored):
    raise UserError(f'{folder} contains {stored}, expected {family}')
  return module


def _read_model(folder: pathlib.Path) -> Any:
  try:
    return json_records.read(folder / _MODEL)
  except (FileNotFoundError, NotADirectoryError) as error:
    raise UserError(
      f'{folder} is not a converted checkpoint (it has no {_MODEL}); create it '
      'with python -m softdimo_jax.convert'
    ) from error
  except (OSError, ValueError) as error:
    raise UserError(
      f'{folder / _MODEL} cannot be read ({error}); if it is damaged or was '
      f'edited, delete {folder} and convert the checkpoint again'
    ) from error


@contextlib.contextmanager
def _appearing(folder: pathlib.Path) -> Iterator[pathlib.Path]:
  """A temporary folder to fill, renamed to `folder` when complete."""
  check_new(folder)
  # Next to the target, because renames are atomic only within a file system.
  partial = folder.with_name(f'.{folder.name}.partial')
  shutil.rmtree(partial, ignore_errors=True)  # Left by a killed process.
  try:
    partial.mkdir(parents=True)
    yield partial
    partial.rename(folder)
  except OSError as error:
    raise UserError(f'{folder} cannot be written ({error})') from error
  finally:
    shutil.rmtree(partial, ignore_errors=True)
