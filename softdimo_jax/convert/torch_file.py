"""Reads torch checkpoints without torch, and without running code from them.

A checkpoint is a zip archive of ROOT/data.pkl, a pickled object whose tensors
name their storages, and one record ROOT/data/KEY per storage. A pickle can call
anything that it can name. Here it can name only the constructors of tensors,
and plain data that trainers save with them, which becomes inert objects; any
other name is rejected, and nothing is ever imported.
"""

import dataclasses
import math
import pathlib
import pickle
import zipfile
from typing import Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from softdimo_jax.convert import state_dict
from softdimo_jax.convert.tree import ConversionError

_STORAGES = {
  'DoubleStorage': np.dtype('<f8'),
  'FloatStorage': np.dtype('<f4'),
  'HalfStorage': np.dtype('<f2'),
  'BFloat16Storage': jnp.dtype('bfloat16'),
  'LongStorage': np.dtype('<i8'),
  'IntStorage': np.dtype('<i4'),
  'ShortStorage': np.dtype('<i2'),
  'CharStorage': np.dtype('i1'),
  'ByteStorage': np.dtype('u1'),
  'BoolStorage': np.dtype('?'),
}
# Packages whose objects Lightning stores with the weights.
_INERT_PACKAGES = (
  'lightning',
  'lightning_fabric',
  'omegaconf',
  'pytorch_lightning',
)
_INERT_NAMES = frozenset(
  (
    '_codecs.encode',
    'argparse.Namespace',
    'collections.Counter',
    'collections.defaultdict',
    'numpy._core.multiarray._reconstruct',
    'numpy._core.multiarray.scalar',
    'numpy.core.multiarray._reconstruct',
    'numpy.core.multiarray.scalar',
    'numpy.dtype',
    'numpy.ndarray',
    'pathlib.PosixPath',
    'pathlib._local.PosixPath',
    'torch.Size',
    'torch.bfloat16',
    'torch.device',
    'torch.float16',
    'torch.float32',
    'typing.Any',
  )
)
_INERT_BUILTINS = frozenset(
  (
    'bool',
    'bytearray',
    'bytes',
    'complex',
    'dict',
    'float',
    'frozenset',
    'int',
    'list',
    'set',
    'slice',
    'str',
    'tuple',
  )
)


@dataclasses.dataclass(frozen=True)
class _Storage:
  """A record of the archive with `size` elements of `dtype`."""

  key: str
  dtype: np.dtype
  size: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
  """A view of a storage; offset and strides count elements."""

  storage: _Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class _Dict(dict):
  """OrderedDict, without the attributes that torch adds to it."""

  def __setstate__(self, state: Any) -> None:
    del state


class _Inert:
  """Placeholder for an unneeded object: accepts anything, does nothing."""

  def __init__(self, *args: Any, **kwargs: Any):
    del args, kwargs

  def __setstate__(self, state: Any) -> None:
    del state

  def __setitem__(self, key: Any, value: Any) -> None:
    del key, value

  def append(self, item: Any) -> None:
    del item

  def extend(self, items: Any) -> None:
    del items


def _is_inert(module: str, name: str) -> bool:
  if module == 'builtins':
    return name in _INERT_BUILTINS
  package = module.split('.')[0]
  return package in _INERT_PACKAGES or f'{module}.{name}' in _INERT_NAMES


def _rebuild_tensor(
  storage: _Storage,
  offset: int,
  shape: tuple[int, ...],
  strides: tuple[int, ...],
  *unused: Any,
) -> _Tensor:
  del unused  # Gradients and hooks.
  return _Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: _Tensor, *unused: Any) -> _Tensor:
  del unused
  return tensor


_MADE = {
  'collections.OrderedDict': _Dict,
  'torch._utils._rebuild_parameter': _rebuild_parameter,
  'torch._utils._rebuild_tensor_v2': _rebuild_tensor,
}


class _Unpickler(pickle.Unpickler):
  """Creates dictionaries, tensors and inert objects, and calls nothing else."""

  def find_class(self, module: str, name: str) -> Any:
    module = 'builtins' if module == '__builtin__' else module
    full = f'{module}.{name}'
    if full in _MADE:
      return _MADE[full]
    if module == 'torch' and name in _STORAGES:
      return name
    if _is_inert(module, name):
      return type(full, (_Inert,), {})
    raise ConversionError(
      f'rejected, because its pickle refers to {full}; only tensors and plain '
      'data are loaded, and no code was run'
    )

  def persistent_load(self, pid: Any) -> _Storage:
    _, storage_type, key, _, size, *_ = pid
    return _Storage(key, _STORAGES[storage_type], size)


def load(path: pathlib.Path, tree: str | None = None) -> dict[str, np.ndarray]:
  """State dict of a torch checkpoint, by official name.

  Storages of optimiser states and other objects are not read.

  Args:
    path: the file.
    tree: see `state_dict.extract`.

  Raises:
    ConversionError: if the pickle refers to a forbidden name, or the file is
      older than torch 1.6 or not a checkpoint.
    Exception: of many kinds, if the file is damaged.
  """
  with path.open('rb') as file:
    if not zipfile.is_zipfile(file):
      file.seek(0)
      raise ConversionError(_why_no_archive(file))
    with zipfile.ZipFile(file) as archive:
      return _read(archive, str(path), tree)


def _read(
  archive: zipfile.ZipFile, where: str, tree: str | None
) -> dict[str, np.ndarray]:
  root = _root(archive)
  with archive.open(f'{root}data.pkl') as file:
    content = _Unpickler(file).load()
  tensors = state_dict.extract(content, _Tensor, where, tree)
  # Tied weights share a storage.
  flat = {
    storage: _elements(archive.read(f'{root}data/{storage.key}'), storage)
    for storage in {tensor.storage for tensor in tensors.values()}
  }
  return {
    name: _view(tensor, flat[tensor.storage])
    for name, tensor in tensors.items()
  }


def _root(archive: zipfile.ZipFile) -> str:
  names = archive.namelist()
  pickles = [name for name in names if name.endswith('/data.pkl')]
  if len(pickles) != 1:
    raise ConversionError('a zip archive, but not a torch checkpoint')
  root = pickles[0].removesuffix('data.pkl')
  order = f'{root}byteorder'
  if order in names and archive.read(order) != b'little':
    raise ConversionError('big-endian checkpoints are not supported')
  return root


def _elements(data: bytes, storage: _Storage) -> np.ndarray:
  flat = np.frombuffer(data, storage.dtype)
  if flat.size != storage.size:
    raise ConversionError(
      f'storage {storage.key} has {flat.size} elements instead of '
      f'{storage.size}'
    )
  return flat


def _view(tensor: _Tensor, flat: np.ndarray) -> np.ndarray:
  """A tensor as a read-only view of its storage's elements."""
  steps = zip(tensor.shape, tensor.strides, strict=True)
  end = tensor.offset + sum((size - 1) * step for size, step in steps)
  inside = not math.prod(tensor.shape) or end < flat.size
  if not inside or min(tensor.offset, *tensor.shape, *tensor.strides, 0) < 0:
    raise ConversionError('a tensor extends beyond its storage')
  return np.lib.stride_tricks.as_strided(
    flat[tensor.offset :],
    tensor.shape,
    [step * flat.itemsize for step in tensor.strides],
    writeable=False,
  )


def _why_no_archive(file: BinaryIO) -> str:
  start = file.read(2)
  file.seek(0)
  if start == b'PK':
    return 'truncated: the end of the zip archive is missing'
  if start[:1] != b'\x80':
    return 'not a torch checkpoint'
  _Unpickler(file).load()  # A forbidden name matters more than the format.
  return (
    'a pickle from before torch 1.6; save it again in torch: '
    'torch.save(torch.load(OLD, weights_only=True), NEW)'
  )
