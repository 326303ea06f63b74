import json

import flax.serialization
import huggingface_hub
import numpy as np
import pytest
import safetensors.flax
import safetensors.numpy
from huggingface_hub.errors import EntryNotFoundError

from softdimo_jax.convert import listing, sources
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
  (tmp_path / 'other.safetensors').touch()
  with pytest.raises(UserError, match=r'model\.bin, other\.safetensors'):
    sources.locate(str(tmp_path))


class _Hub:
  """A repository on the Hub, stored in a folder."""

  def __init__(self, folder, monkeypatch):
    self.folder, self.asked = folder, []
    monkeypatch.setattr(huggingface_hub, 'hf_hub_download', self.download)
    monkeypatch.setattr(huggingface_hub, 'list_repo_files', self.files)

  def download(self, repo_id, filename):
    if filename in sources.CONFIGS:
      raise EntryNotFoundError(filename)
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


def shards(folder, *, index=True):
  """Two shards of a state dict, as transformers writes them."""
  folder.mkdir(exist_ok=True)
  names = [f'model-0000{n}-of-00002.safetensors' for n in (1, 2)]
  state = {'a': np.zeros(2, np.float32), 'b': np.ones(3, np.float32)}
  for name, (entry, array) in zip(names, state.items(), strict=True):
    safetensors.numpy.save_file({entry: array}, folder / name)
  file = folder / 'model.safetensors.index.json'
  if index:
    weight_map = dict(zip(state, names, strict=True))
    file.write_text(json.dumps({'metadata': {}, 'weight_map': weight_map}))
  return file, names


def test_shards_are_one_checkpoint(tmp_path, monkeypatch):
  file, names = shards(tmp_path)
  (tmp_path / 'optimizer.bin').touch()
  for path in (tmp_path, file, *(tmp_path / name for name in names)):
    assert list(sources.load(sources.locate(str(path)))) == ['a', 'b']
  assert sources.checksum(file) == sources.checksum(tmp_path / names[0])
  hub = _Hub(tmp_path, monkeypatch)
  assert list(sources.load(sources.locate('org/name'))) == ['a', 'b']
  assert [name for _, name in hub.asked] == [file.name, *names]
  file.unlink()
  assert sources.locate(str(tmp_path)) == tmp_path / names[0]


def test_shards_that_do_not_fit_are_refused(tmp_path):
  file, names = shards(tmp_path)
  content = json.loads(file.read_text())
  content['weight_map']['c'] = names[1]
  file.write_text(json.dumps(content))
  with pytest.raises(UserError, match='index and its shards differ in c'):
    sources.load(file)
  file.write_text('{}')
  with pytest.raises(UserError, match='not an index of shards'):
    sources.load(file)
  (tmp_path / names[1]).write_bytes((tmp_path / names[0]).read_bytes())
  with pytest.raises(UserError, match='a is in another shard too'):
    sources.load(tmp_path / names[0])
  (tmp_path / names[1]).unlink()
  with pytest.raises(UserError, match=f'{names[1]} is missing'):
    sources.load(tmp_path / names[0])


@pytest.mark.parametrize(
  ('names', 'found'),
  [
    (['pytorch_model.bin', 'model.safetensors'], ['model.safetensors']),
    (
      ['pytorch_model.bin', 'flax_model.msgpack'],
      ['flax_model.msgpack', 'pytorch_model.bin'],
    ),
    (
      [
        'diffusion_pytorch_model.safetensors',
        'diffusion_pytorch_model.bin',
        'onnx/model.bin',
      ],
      ['diffusion_pytorch_model.safetensors'],
    ),
    (
      ['model.safetensors', 'model.fp16.safetensors'],
      ['model.fp16.safetensors', 'model.safetensors'],
    ),
    (['training_args.bin', 'a/model.PTH', 'config.json'], ['a/model.PTH']),
  ],
)
def test_safetensors_are_preferred_to_the_same_weights(names, found):
  chosen, left = listing.candidates(names)
  assert chosen == found
  assert not set(chosen) & set(left)


def test_vocabularies_are_no_weights():
  for name in ('vocab.txt', 'merges.txt', 'config.json', 'vocab.json'):
    assert not listing.is_weights(name)
  for name in ('a.pt', 'm.safetensors.index.json', 'm.bin.index.fp16.json'):
    assert listing.is_weights(name)


def test_what_a_folder_leaves_out_is_said(tmp_path, caplog):
  safetensors.numpy.save_file(STATE, tmp_path / 'model.safetensors')
  torch_format.save(tmp_path / 'pytorch_model.bin', STATE)
  assert sources.locate(str(tmp_path)) == tmp_path / 'model.safetensors'
  assert 'leaves out pytorch_model.bin' in caplog.text


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
