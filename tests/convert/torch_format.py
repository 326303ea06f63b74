"""Writes torch's checkpoint format without torch.

What `torch.save` writes: a zip archive with a protocol 2 pickle, in which a
tensor is a call of `_rebuild_tensor_v2` on a storage of the archive.
"""

import pickle
import struct
import zipfile
from collections.abc import Mapping

import numpy as np

STORAGES = {
  'float32': 'FloatStorage',
  'float16': 'HalfStorage',
  'bfloat16': 'BFloat16Storage',
  'int64': 'LongStorage',
  'int32': 'IntStorage',
}
# Start of a file in the format before torch 1.6.
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


class Call:
  """A pickled call `name(*arguments)`."""

  def __init__(self, name: str, *arguments):
    self.name, self.arguments = name, arguments


class Global:
  """A pickled reference to a class."""

  def __init__(self, name: str):
    self.name = name


def save(path, value, *, root: str = 'archive') -> None:
  """`torch.save(value, path)`, with NumPy arrays in place of tensors."""
  storages = []
  data = pickled(value, storages)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr(f'{root}/data.pkl', data)
    archive.writestr(f'{root}/byteorder', 'little')
    for key, array in enumerate(storages):
      archive.writestr(f'{root}/data/{key}', array.tobytes())
    archive.writestr(f'{root}/version', '3\n')


def pickled(value, storages: list[np.ndarray]) -> bytes:
  """Protocol 2 pickle; contiguous arrays are appended to `storages`."""
  return pickle.PROTO + b'\x02' + _encode(value, storages) + pickle.STOP


def _encode(value, storages) -> bytes:
  encode = lambda *values: b''.join(_encode(v, storages) for v in values)
  match value:
    case None:
      return pickle.NONE
    case bool():
      return pickle.NEWTRUE if value else pickle.NEWFALSE
    case int():
      return pickle.BININT + struct.pack('<i', value)
    case float():
      return pickle.BINFLOAT + struct.pack('>d', value)
    case str():
      text = value.encode()
      return pickle.BINUNICODE + struct.pack('<I', len(text)) + text
    case tuple():
      return pickle.MARK + encode(*value) + pickle.TUPLE
    case list():
      return pickle.EMPTY_LIST + pickle.MARK + encode(*value) + pickle.APPENDS
    case Mapping():
      items = (part for item in value.items() for part in item)
      return pickle.EMPTY_DICT + pickle.MARK + encode(*items) + pickle.SETITEMS
    case Global():
      module, _, name = value.name.rpartition('.')
      return pickle.GLOBAL + f'{module}\n{name}\n'.encode()
    case Call():
      return encode(Global(value.name), value.arguments) + pickle.REDUCE
    case np.ndarray():
      return encode(_tensor(value, storages))
    case _Persistent():
      return encode(value.pid) + pickle.BINPERSID
  raise TypeError(type(value))


class _Persistent:
  def __init__(self, *pid):
    self.pid = pid


def _tensor(array: np.ndarray, storages: list[np.ndarray]) -> Call:
  """The tensor of an array, over a storage in the array's memory order."""
  order = sorted(range(array.ndim), key=lambda axis: -array.strides[axis])
  storages.append(np.ascontiguousarray(array.transpose(order)))
  return Call(
    'torch._utils._rebuild_tensor_v2',
    _Persistent(
      'storage',
      Global(f'torch.{STORAGES[array.dtype.name]}'),
      str(len(storages) - 1),
      'cpu',
      array.size,
    ),
    0,
    array.shape,
    tuple(stride // array.itemsize for stride in array.strides),
    False,
    Call('collections.OrderedDict'),
  )
