import json

import flax.serialization
import huggingface_hub
import numpy as np
import pytest
import safetensors.flax
import safetensors.numpy

from softdimo_jax.convert import sources
from softdimo_jax.errors import UserError
from tests.convert import torch_format

STATE = {'a.weight': np.arange(6, dtype=np.float32).reshape(2, 3)}


def check_equal(loaded):
  assert list(loaded) == list(STATE)
  np.testing.assert_array_equal(loaded['a.weight'], STATE['a.weight'])


@pytest.mark.parametrize('extension', ['.pth', '.pt', '.bin', '.ckpt'])
def test_torch_files(tmp_path, extension):
  file = tmp_path / f'model{extension}'
  torch_format.save(file, STATE)
  check_equal(sources.load(file))


@pytest.mark.parametrize('prefix', ['', 'module.', '_orig_mod.module.'])
def test_safetensors_files_and_prefixes(tmp_path, prefix):
  file = tmp_path / 'model.safetensors'
  state = {prefix + name: array for name, array in STATE.items()}
  safetensors.numpy.save_file(state, file)
  check_equal(sources.load(file))
  safetensors.flax.save_file(
    {k: v.astype('bfloat16') for k, v in state.items()}, file
  )
  check_equal(sources.load(file))


@pytest.mark.parametrize('name', ['model.msgpack', 'imagenet256_checkpoint'])
def test_flax_files(tmp_path, name):
  tree = {'params': {'a': {'weight': STATE['a.weight']}}, 'step': 3}
  (tmp_path / name).write_bytes(flax.serialization.msgpack_serialize(tree))
  loaded = sources.load(tmp_path / name)
  assert list(loaded) == ['a/weight']
  np.testing.assert_array_equal(loaded['a/weight'], STATE['a.weight'])


@pytest.mark.parametrize('extension', ['.safetensors', '.msgpack', '.pth'])
def test_truncated_and_damaged_files(tmp_path, extension):
  file = tmp_path / f'model{extension}'
  match extension:
    case '.safetensors':
      safetensors.numpy.save_file(STATE, file)
    case '.msgpack':
      file.write_bytes(flax.serialization.msgpack_serialize(STATE))
    case '.pth':
      torch_format.save(file, STATE)
  whole = file.read_bytes()
  for size in (0, 3, len(whole) // 2, len(whole) - 1):
    file.write_bytes(whole[:size])
    with pytest.raises(UserError, match=rf'^{file}.*(truncated|not a torch)'):
      sources.load(file)


def test_a_flipped_byte_of_a_weight_is_noticed(tmp_path):
  file = tmp_path / 'model.pth'
  torch_format.save(file, STATE)
  data, weight = bytearray(file.read_bytes()), STATE['a.weight'].tobytes()
  data[data.index(weight)] ^= 1
  file.write_bytes(data)
  with pytest.raises(UserError, match=r'truncated or damaged.*CRC'):
    sources.load(file)


def test_unknown_extensions_and_missing_files(tmp_path):
  (tmp_path / 'model.h5').write_bytes(b'')
  with pytest.raises(UserError, match=r'model\.h5 has an unknown extension'):
    sources.load(tmp_path / 'model.h5')
  for missing in (str(tmp_path / 'x.pth'), 'weights/x.pth', './a/b', 'x'):
    with pytest.raises(UserError, match='is neither a file nor a Hub id'):
      sources.locate(missing)


def test_a_folder_must_contain_one_file(tmp_path):
  (tmp_path / 'README.md').touch()
  with pytest.raises(UserError, match='contains 0 weight files'):
    sources.locate(str(tmp_path))
  (tmp_path / 'model.bin').touch()
  assert sources.locate(str(tmp_path)) == tmp_path / 'model.bin'
  (tmp_path / 'model.safetensors').touch()
  with pytest.raises(UserError, match=r'model\.bin, model\.safetensors'):
    sources.locate(str(tmp_path))


class _Hub:
  """A repository on the Hub, stored in a folder."""

  def __init__(self, folder, monkeypatch):
    self.folder, self.asked = folder, []
    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', self.download)
    monkeypatch.setattr(huggingface_hub, 'list_repo_files', self.files)

  def download(self, repo_id, filename):
    self.asked.append((repo_id, filename))
    return str(self.folder / filename)

  def files(self, repo_id):
    return [file.name for file in self.folder.iterdir()]


def test_hub_ids(tmp_path, monkeypatch):
  hub = _Hub(tmp_path, monkeypatch)
  torch_format.save(tmp_path / 'model.bin', STATE)
  (tmp_path / 'LICENSE').touch()
  for weights in ('org/name_14bit', 'org/name_14bit/model.bin'):
    check_equal(sources.load(sources.locate(weights)))
  assert hub.asked == [('org/name_14bit', 'model.bin')] * 2
  (tmp_path / 'other.pth').touch()
  with pytest.raises(UserError, match=r'name one: org/name_14bit/FILE'):
    sources.locate('org/name_14bit')


def test_errors_of_the_hub(monkeypatch):
  def refuse(*_):
    raise ConnectionError('no network\nat all')

  monkeypatch.setattr(huggingface_hub, 'hf_hub_download', refuse)
  with pytest.raises(UserError, match=r'from the Hub \(Conn.*at all'):
    sources.locate('org/name/folder/model.bin')


def test_manifests(tmp_path):
  file = tmp_path / 'x_full.json'
  entries = [['params/a/b', [2, 3], 'float32'], ['params/c', [], 'int32']]
  file.write_text(json.dumps({'entries': entries}))
  listing = sources.load_listing(file)
  assert {k: (v.shape, v.dtype.name) for k, v in listing.items()} == {
    'a/b': ((2, 3), 'float32'),
    'c': ((), 'int32'),
  }
  for text in ('', '[]', '{}', '{"entries": {"model": []}}'):
    file.write_text(text)
    with pytest.raises(UserError, match='has no list "entries"'):
      sources.load_listing(file)
  with pytest.raises(UserError, match='is missing'):
    sources.load_listing(tmp_path / 'absent.json')
