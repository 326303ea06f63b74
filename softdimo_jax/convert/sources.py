"""Reads weights from a file, a folder or the Hub, by file extension."""

import hashlib
import json
import pathlib
import re
from collections.abc import Iterable

import flax.serialization
import huggingface_hub
import jax
import numpy as np
import safetensors.numpy

from softdimo_jax.convert import state_dict, torch_file
from softdimo_jax.convert.tree import ConversionError
from softdimo_jax.errors import UserError

_HUB_ID = re.compile(r'\w[\w.-]*/\w[\w.-]*(/.+)?')

StateDict = dict[str, np.ndarray]
Listing = dict[str, jax.ShapeDtypeStruct]


def locate(weights: str) -> pathlib.Path:
  """The local file of weights, downloaded if necessary.

  Args:
    weights: a file, a folder that contains one, or a Hub id: org/name for a
      repository that contains one, else org/name/path/in/repo.

  Raises:
    UserError: if there is no such file, or several.
  """
  path = pathlib.Path(weights).expanduser()
  if path.is_file():
    return path
  if path.is_dir():
    files = [file.name for file in path.iterdir() if file.is_file()]
    return path / _only(files, weights)
  # org/name.bin is more likely a mistyped path than a repository.
  looks_like_file = weights.count('/') < 2 and path.suffix in _EXTENSIONS
  if looks_like_file or not _HUB_ID.fullmatch(weights):
    raise UserError(
      f'{weights} is neither a file nor a Hub id (org/name or '
      'org/name/path/in/repo)'
    )
  return _download(weights)


def _download(weights: str) -> pathlib.Path:
  org, name, *inside = weights.split('/')
  repo, file = f'{org}/{name}', '/'.join(inside)
  try:
    file = file or _only(huggingface_hub.list_repo_files(repo), repo)
    return pathlib.Path(huggingface_hub.hf_hub_download(repo, file))
  except UserError:
    raise
  except Exception as error:  # Network, name and access errors share no base.
    raise UserError(
      f'{weights} is not a local file, and cannot be downloaded from the Hub '
      f'({_brief(error)})'
    ) from error


def _only(names: Iterable[str], where: str) -> str:
  files = sorted(n for n in names if pathlib.Path(n).suffix in _EXTENSIONS)
  if len(files) != 1:
    raise UserError(
      f'{where} contains {len(files)} weight files'
      + (f' ({", ".join(files)}); name one: {where}/FILE' if files else '')
    )
  return files[0]


def load(path: pathlib.Path) -> StateDict:
  """State dict of a file, by official name.

  Raises:
    UserError: if the extension is unknown, or the file is truncated, damaged,
      not a state dict or attempts to run code.
  """
  if path.suffix not in _READERS:
    raise UserError(
      f'{path} has an unknown extension; choose one of {", ".join(_EXTENSIONS)}'
    )
  try:
    return _READERS[path.suffix](path)
  except ConversionError as error:
    raise UserError(f'{path}: {error}') from error
  except Exception as error:  # Readers raise many kinds for damaged files.
    raise UserError(
      f'{path} cannot be read; it is truncated or damaged ({_brief(error)})'
    ) from error


def load_listing(path: pathlib.Path) -> Listing:
  """Shapes of a checkpoint from a manifest, a JSON file with `entries`.

  Raises:
    UserError: if the file is missing or not a manifest.
  """
  try:
    entries = json.loads(path.read_text('utf-8'))['entries']
    return state_dict.strip_prefixes(
      {
        name: jax.ShapeDtypeStruct(tuple(shape), np.dtype(dtype))
        for name, shape, dtype in entries
      }
    )
  except FileNotFoundError as error:
    raise UserError(f'manifest {path} is missing') from error
  except (KeyError, OSError, TypeError, ValueError) as error:
    raise UserError(
      f'manifest {path} has no list "entries" of [name, shape, dtype] '
      f'({_brief(error)})'
    ) from error


def checksum(path: pathlib.Path) -> str:
  """SHA-256 of a file, in hexadecimal."""
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _safetensors(path: pathlib.Path) -> StateDict:
  return state_dict.extract(safetensors.numpy.load_file(path), np.ndarray)


def _msgpack(path: pathlib.Path) -> StateDict:
  tree = flax.serialization.msgpack_restore(path.read_bytes())
  return state_dict.extract(tree, np.ndarray)


_READERS = {
  '.pth': torch_file.load,
  '.pt': torch_file.load,
  '.bin': torch_file.load,
  '.ckpt': torch_file.load,
  '.safetensors': _safetensors,
  '.msgpack': _msgpack,
  '': _msgpack,  # Google's files have no extension.
}
_EXTENSIONS = tuple(extension for extension in _READERS if extension)


def _brief(error: Exception) -> str:
  text = ' '.join(f'{type(error).__name__}: {error}'.split())
  return text if len(text) <= 160 else f'{text[:157]}...'
