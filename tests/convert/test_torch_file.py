import argparse
import os
import pathlib
import pickle

import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.convert import sources, torch_file
from softdimo_jax.convert.tree import ConversionError
from tests.convert import torch_format
from tests.convert.torch_format import Call, Global


def ramp(*shape, dtype=np.float32):
  return np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)


def check_equal(loaded, expected):
  assert list(loaded) == list(expected)
  for name, array in expected.items():
    assert loaded[name].dtype == array.dtype
    np.testing.assert_array_equal(loaded[name], array)


STATE = {
  'weight': ramp(3, 4),
  'transposed': ramp(4, 3).T,
  'channels_last': ramp(2, 5, 6, 3).transpose(0, 3, 1, 2),
  'scalar': ramp(),
  'empty': ramp(0, 3),
  'half': ramp(5, dtype=np.float16),
  'brain': ramp(5).astype(jnp.bfloat16),
  'counter': ramp(2, dtype=np.int64),
}


@pytest.mark.parametrize('wrapper', [None, 'model_state_dict', 'state_dict'])
def test_arrays_of_every_layout_are_read(tmp_path, wrapper):
  file = tmp_path / 'model.pth'
  state = {f'module.{name}': array for name, array in STATE.items()}
  content = state if wrapper is None else {'iter': 7, wrapper: state}
  torch_format.save(file, content)
  check_equal(sources.load(file), STATE)


def test_parameters_are_tensors(tmp_path):
  file = tmp_path / 'model.bin'
  weight, hooks = ramp(2, 3), Call('collections.OrderedDict')
  parameter = Call('torch._utils._rebuild_parameter', weight, True, hooks)
  torch_format.save(file, {'weight': parameter})
  check_equal(torch_file.load(file), {'weight': weight})


def test_objects_stored_with_the_weights_are_not_imported(tmp_path):
  """As in a Lightning checkpoint, with classes as keys of its callbacks."""
  file = tmp_path / 'last.ckpt'
  lightning = 'pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint'
  scalar = Call(
    'numpy.core.multiarray.scalar',
    Call('numpy.dtype', 'f8', False, True),
    Call('_codecs.encode', '\x00' * 8, 'latin1'),
  )
  beside = {
    'callbacks': {Global(lightning): {'best': scalar}},
    'hyper_parameters': Call('argparse.Namespace'),
    'seen': Call('__builtin__.set', [1, 2]),
    'optimizer_states': [{'exp_avg': ramp(9)}],
  }
  torch_format.save(file, {'epoch': 3, 'state_dict': STATE, **beside})
  check_equal(torch_file.load(file), STATE)


def test_an_object_among_the_weights_is_refused(tmp_path):
  file = tmp_path / 'model.bin'
  model = Call('lightning.pytorch.LightningModule')
  torch_format.save(file, {'weight': ramp(2), 'model': model})
  with pytest.raises(ConversionError, match=r'model is not a tensor.*Ligh'):
    torch_file.load(file)
  torch_format.save(file, model)
  with pytest.raises(ConversionError, match=r'a state dict, not.*LightningM'):
    torch_file.load(file)


@pytest.mark.parametrize(
  'name',
  [
    'os.system',
    'posix.system',
    'builtins.eval',
    '__builtin__.exec',
    'subprocess.Popen',
    'runpy.run_path',
    'torch.load',
    'numpy.testing._private.utils.runstring',
    'collections.OrderedDict.fromkeys',
    'lightningrod.anything',
  ],
)
def test_a_pickle_that_calls_is_refused_and_nothing_runs(tmp_path, name):
  file, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
  call = Call(name, f'touch {trace}')
  torch_format.save(file, {'state_dict': {'weight': ramp(2)}, 'extra': call})
  shown = name.replace('__builtin__', 'builtins')
  with pytest.raises(ConversionError, match=f'rejected.* {shown};'):
    torch_file.load(file)
  assert not trace.exists()


class _Evil:
  def __init__(self, path: pathlib.Path):
    self.path = path

  def __reduce__(self):
    return os.system, (f'touch {self.path}',)


@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_a_bare_pickle_that_calls_is_refused_too(tmp_path, protocol):
  file, trace = tmp_path / 'evil.bin', tmp_path / 'trace'
  file.write_bytes(pickle.dumps({'weight': _Evil(trace)}, protocol))
  with pytest.raises(ConversionError, match=r'rejected.*\.system'):
    torch_file.load(file)
  assert not trace.exists()


def test_the_old_format_is_refused_with_advice(tmp_path):
  file = tmp_path / 'old.pth'
  file.write_bytes(pickle.dumps(torch_format.LEGACY_MAGIC, 2) + b'rest')
  with pytest.raises(ConversionError, match=r'before torch 1\.6.*torch\.save'):
    torch_file.load(file)


def test_files_that_are_not_checkpoints(tmp_path):
  file = tmp_path / 'model.pth'
  torch_format.save(file, STATE)
  whole = file.read_bytes()
  file.write_bytes(whole[: len(whole) // 2])
  with pytest.raises(ConversionError, match='truncated'):
    torch_file.load(file)
  for contents in (b'', b'<html>not found</html>'):
    file.write_bytes(contents)
    with pytest.raises(ConversionError, match='not a torch checkpoint'):
      torch_file.load(file)
  np.savez(tmp_path / 'arrays', **{'a': ramp(2)})
  with pytest.raises(ConversionError, match='zip archive, but not a torch'):
    torch_file.load(tmp_path / 'arrays.npz')


@pytest.mark.parametrize(
  ('size', 'offset', 'shape', 'strides'),
  [
    (4, 0, (2, 3), (3, 1)),
    (4, 1, (4,), (1,)),
    (4, -1, (2,), (1,)),
    (4, 0, (2,), (-1,)),
    (4, 0, (2,), (10**9,)),
    (5, 0, (2,), (1,)),
  ],
)
def test_a_tensor_stays_in_its_storage(
  tmp_path, monkeypatch, size, offset, shape, strides
):
  def forged(array, storages):
    call = tensor(array, storages)
    storage = call.arguments[0]
    storage.pid = (*storage.pid[:-1], size)
    return Call(call.name, storage, offset, shape, strides, False, None)

  tensor = torch_format._tensor
  monkeypatch.setattr(torch_format, '_tensor', forged)
  file = tmp_path / 'model.pth'
  torch_format.save(file, {'weight': ramp(4)})
  with pytest.raises(ConversionError, match='storage'):
    torch_file.load(file)


@pytest.mark.slow
def test_files_of_torch_itself(tmp_path):
  torch = pytest.importorskip('torch')
  tensors = {
    name: torch.from_numpy(np.array(array, copy=True))
    for name, array in STATE.items()
    if name != 'brain'
  }
  tensors['transposed'] = torch.from_numpy(ramp(4, 3)).T
  tensors['brain'] = torch.arange(5).to(torch.bfloat16)
  tensors['parameter'] = torch.nn.Parameter(torch.ones(2, 3))
  tensors['tied'] = tensors['weight']
  tensors['slice'] = tensors['weight'][1:]
  expected = STATE | {
    'parameter': np.ones((2, 3), np.float32),
    'tied': STATE['weight'],
    'slice': STATE['weight'][1:],
  }
  linear = torch.nn.Linear(3, 2)
  linear(torch.ones(1, 3)).sum().backward()
  optimizer = torch.optim.AdamW(linear.parameters())
  optimizer.step()
  beside = {
    'iter': 1,
    'optimizer_state_dict': optimizer.state_dict(),
    'best': np.float64(0.5),
    'generators': [torch.get_rng_state(), np.random.get_state()],
    'shape': torch.Size([1, 2]),
    'device': torch.device('cpu'),
    'dtype': torch.float32,
    'arguments': argparse.Namespace(folder=tmp_path, classes={1, 2}),
  }
  file = tmp_path / 'model.pth'
  torch.save({'model_state_dict': tensors, **beside}, file)
  loaded = torch_file.load(file)
  check_equal({name: loaded[name] for name in expected}, expected)
  torch.save(linear.state_dict(), file)  # An OrderedDict with attributes.
  loaded = torch_file.load(file)
  np.testing.assert_array_equal(loaded['weight'], linear.weight.detach())
  torch.save(tensors, file, _use_new_zipfile_serialization=False)
  with pytest.raises(ConversionError, match=r'before torch 1\.6'):
    torch_file.load(file)
  torch.save(linear, file)
  with pytest.raises(ConversionError, match=r'rejected.*torch\.nn'):
    torch_file.load(file)
