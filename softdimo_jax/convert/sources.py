"""Reads weights from a file, its shards, a folder or the Hub."""

import hashlib
import pathlib
from typing import Any

import flax.serialization
import huggingface_hub
import jax
import numpy as np
import safetensors.numpy
from huggingface_hub.errors import EntryNotFoundError

from softdimo_jax.convert import listing, state_dict, torch_file
from softdimo_jax.convert.tree import ConversionError
from softdimo_jax.errors import UserError
from softdimo_jax.runtime.files import unique_json

# Configurations that say what shapes do not, see `clip_config`.
CONFIGS = ('config.json', 'open_clip_config.json', 'preprocessor_config.json')

StateDict = dict[str, np.ndarray]
Listing = dict[str, jax.ShapeDtypeStruct]


def locate(weights: str) -> pathlib.Path:
  """The local file of weights, downloaded if necessary.

  It stands for all its shards if it is an index or the first of them.

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
  if not listing.is_hub_id(weights):
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
    path = pathlib.Path(huggingface_hub.hf_hub_download(repo, file))
    if listing.is_weights(path.name):
      _download_beside(repo, pathlib.PurePosixPath(file).parent, path)
    return path
  except UserError:
    raise
  except Exception as error:  # Network, name and access errors share no base.
    raise UserError(
      f'{weights} is not a local file, and cannot be downloaded from the Hub '
      f'({_brief(error)})'
    ) from error


def _download_beside(
  repo: str, folder: pathlib.PurePosixPath, path: pathlib.Path
) -> None:
  """Downloads the other shards, and the configurations that exist."""
  for part in _parts(path):
    if part != path:
      huggingface_hub.hf_hub_download(repo, str(folder / part.name))
  for name in CONFIGS:
    try:
      huggingface_hub.hf_hub_download(repo, str(folder / name))
    except EntryNotFoundError:
      continue  # Whoever needs it refuses the weights.


def _only(names: list[str], where: str) -> str:
  found, left = listing.candidates(names)
  if len(found) != 1:
    raise UserError(
      f'{where} contains {len(found)} weight files'
      + (f' ({", ".join(found)}); name one: {where}/FILE' if found else '')
    )
  if left:
    state_dict.say(
      f'{where}: reads {found[0]}, and leaves out {", ".join(left)}'
    )
  return found[0]


def load(path: pathlib.Path, tree: str | None = None) -> StateDict:
  """State dict of a file and its other shards, by official name.

  Args:
    path: from `locate`.
    tree: which of several trees in the file, see `state_dict.extract`.

  Raises:
    UserError: if the extension is unknown, or a file is missing, truncated,
      damaged, not a state dict or attempts to run code.
  """
  state: StateDict = {}
  for part in _parts(path):
    read = _load_file(part, tree)
    if twice := sorted(state.keys() & read.keys()):
      raise UserError(f'{part}: {twice[0]} is in another shard too')
    state |= read
  if expected := listing.names_of(path):
    differing = sorted(expected ^ state.keys())
    if differing:
      raise UserError(
        f'{path}: the index and its shards differ in {differing[0]}'
      )
  return state_dict.strip_prefixes(state)


def _load_file(path: pathlib.Path, tree: str | None) -> StateDict:
  extension = path.suffix.lower()
  if extension not in _READERS:
    raise UserError(
      f'{path} has an unknown extension; choose one of '
      f'{", ".join(listing.EXTENSIONS)}'
    )
  if not path.is_file():
    raise UserError(f'{path} is missing')
  try:
    return _READERS[extension](path, tree)
  except ConversionError as error:
    raise UserError(f'{path}: {error}') from error
  except Exception as error:  # Readers raise many kinds for damaged files.
    raise UserError(
      f'{path} cannot be read; it is truncated or damaged ({_brief(error)})'
    ) from error


def _parts(path: pathlib.Path) -> list[pathlib.Path]:
  try:
    return listing.parts(path)
  except ConversionError as error:
    raise UserError(f'{path}: {error}') from error


def load_listing(path: pathlib.Path) -> Listing:
  """Shapes of a checkpoint from a manifest, a JSON file with `entries`.

  Raises:
    UserError: if the file is missing or not a manifest.
  """
  try:
    entries = unique_json(path.read_text('utf-8'))['entries']
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
  """SHA-256 of a file, or of those of its shards, in hexadecimal."""
  digests = []
  for part in _parts(path):
    with part.open('rb') as file:
      digests.append(hashlib.file_digest(file, 'sha256').hexdigest())
  if len(digests) == 1:
    return digests[0]
  return hashlib.sha256('\n'.join(digests).encode()).hexdigest()


def _safetensors(path: pathlib.Path, tree: str | None) -> StateDict:
  content: Any = safetensors.numpy.load_file(path)
  return state_dict.extract(content, np.ndarray, str(path), tree)


def _msgpack(path: pathlib.Path, tree: str | None) -> StateDict:
  content = flax.serialization.msgpack_restore(path.read_bytes())
  return state_dict.extract(content, np.ndarray, str(path), tree)


_READERS = {
  '.pth': torch_file.load,
  '.pt': torch_file.load,
  '.bin': torch_file.load,
  '.ckpt': torch_file.load,
  '.safetensors': _safetensors,
  '.msgpack': _msgpack,
  '': _msgpack,  # Google's files have no extension.
}


def _brief(error: Exception) -> str:
  text = ' '.join(f'{type(error).__name__}: {error}'.split())
  return text if len(text) <= 160 else f'{text[:157]}...'
