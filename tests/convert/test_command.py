"""From official files to converted folders, and all possible failures."""

import dataclasses
import json
import os
import pathlib

import flax.serialization
import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from softdimo_jax.convert import command, folder, registry
from softdimo_jax.errors import UserError
from softdimo_jax.parity import official_generators, official_tokenizers
from tests.commands import call, fails, process, succeeds
from tests.convert import torch_format
from tests.convert.torch_format import Call
from tests.golden.weights import load

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
LABELS = np.array([0, 3])


@dataclasses.dataclass(frozen=True)
class Case:
  """A fixture's model with synthetic weights, in a file as released."""

  family: str
  fixture: str
  model: str | None
  file: str
  overrides: dict[str, int]

  def state_dict(self):
    _, state, _ = load(GOLDEN, self.fixture)
    return state[self.model] if self.model else state

  def module(self):
    config = load(GOLDEN, self.fixture)[0]['config']
    config = config['models'][self.model] if self.model else config['model']
    match self.family:
      case 'maskgit':
        return official_generators.maskgit_transformer(config)
      case 'taming_vqgan':
        return official_tokenizers.taming_vqgan(config)
      case 'maskbit' | 'maskbit_table':
        tables = self.family == 'maskbit_table'
        return official_generators.maskbit_generator(config, tables=tables)
      case 'maskbit_tokenizer':
        groups = self.overrides.get('num_groups', 1)
        legacy = config['legacy']
        return official_tokenizers.maskbit_tokenizer(
          config['config'], num_groups=groups, legacy=legacy
        )
      case 'google_maskgit':
        return official_generators.google_transformer(config, num_classes=5)
      case 'google_tokenizer':
        return official_tokenizers.google_tokenizer(config)

  def write(self, path: pathlib.Path, state) -> pathlib.Path:
    path = path / self.file
    if path.suffix == '.safetensors':
      safetensors.numpy.save_file(state, path)
    elif path.suffix in ('', '.msgpack'):
      tree = traverse_util.unflatten_dict(state, sep='/')
      path.write_bytes(flax.serialization.msgpack_serialize(tree))
    elif path.suffix == '.ckpt':
      state = state | {'loss.logvar': np.zeros((), np.float32)}
      callbacks = {'name': Call('pytorch_lightning.callbacks.Callback')}
      content = {'epoch': 1, 'state_dict': state, 'callbacks': callbacks}
      torch_format.save(path, content)
    elif path.suffix == '.pth':
      torch_format.save(path, {'iter': 5, 'model_state_dict': state})
    else:
      torch_format.save(path, state)
    return path


HEADS = {'num_heads': 4}
CASES = {
  'maskgit': Case(
    'maskgit',
    'maskgit_transformer',
    None,
    'MaskGIT_ImageNet_256.pth',
    HEADS | {'num_classes': 5},
  ),
  'taming': Case('taming_vqgan', 'maskgit_vqgan', None, 'last.ckpt', {}),
  'bits': Case('maskbit', 'maskbit_generator', 'b10s2', 'm.bin', HEADS),
  'pre_norm': Case(
    'maskbit', 'maskbit_generator', 'b14s2pre', 'm.safetensors', HEADS
  ),
  'one_group': Case(
    'maskbit', 'maskbit_generator', 'b6s1', 'm.bin', {'num_heads': 2}
  ),
  'tables': Case(
    'maskbit_table', 'maskbit_generator', 'embed12s2', 'm.bin', HEADS
  ),
  'lookup_free': Case(
    'maskbit_tokenizer',
    'maskbit_tokenizer',
    'lfq10',
    't.bin',
    {'num_groups': 5},
  ),
  'codebook': Case('maskbit_tokenizer', 'maskbit_tokenizer', 'vq', 't.bin', {}),
  'google': Case(
    'google_maskgit',
    'google_transformer',
    None,
    'maskgit_imagenet256_checkpoint',
    {'num_classes': 5},
  ),
  'google_tokenizer': Case(
    'google_tokenizer', 'google_tokenizer', None, 't.msgpack', {}
  ),
}


@pytest.mark.parametrize('name', CASES)
def test_a_converted_folder_is_the_direct_conversion(name, tmp_path, capsys):
  case = CASES[name]
  state, expected = case.state_dict(), case.module()
  file = case.write(tmp_path, state)
  out = tmp_path / 'out'
  command.run(
    command.Conversion(
      case.family, str(file), out=out, overrides=case.overrides
    )
  )
  module, params = folder.load_converted(out, case.family)
  direct, _ = registry.FORMATS[case.family].convert(state, expected)
  jax.tree.map(np.testing.assert_array_equal, params, direct)
  if case.family == 'taming_vqgan':  # The same levels at another resolution.
    assert same_outputs(module, expected, params)
  else:
    assert module == expected
  source = json.loads((out / 'model.json').read_text())['source']
  assert (source['weights'], source['file']) == (str(file), case.file)
  assert len(source['sha256']) == 64
  assert f'written to {out}' in capsys.readouterr().out
  assert sorted(os.listdir(tmp_path)) == sorted([case.file, 'out'])


def same_outputs(module, other, params) -> bool:
  images = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
  outputs = [
    jax.jit(m.apply)({'params': params}, images) for m in (module, other)
  ]
  jax.tree.map(np.testing.assert_array_equal, *outputs)
  return True


@pytest.fixture
def maskgit(tmp_path):
  """(state dict, function that converts it from a file)."""
  case = CASES['maskgit']

  def convert(state, **changes):
    file = case.write(tmp_path, state)
    request = command.Conversion(
      case.family, str(file), out=tmp_path / 'out', overrides=case.overrides
    )
    command.run(dataclasses.replace(request, **changes))

  yield case.state_dict(), convert
  # In any case, the folder is complete or absent.
  left = set(os.listdir(tmp_path)) - {case.file}
  assert left <= {'out'}
  if left:
    assert (tmp_path / 'out' / 'model.json').exists()


def test_checking_writes_nothing(maskgit, tmp_path, capsys):
  state, convert = maskgit
  convert(state, out=None, check=True)
  assert not (tmp_path / 'out').exists()
  out = capsys.readouterr().out
  assert 'used          41  ' in out and 'unexpected     0\n' in out
  assert 'vocab_size=24, num_classes=5, length=16' in out


def test_missing_and_extra_entries_are_reported(maskgit, capsys):
  state, convert = maskgit
  extra = {f'extra.{i}': np.zeros(1, np.float32) for i in range(5)}
  del state['last_layer.2.bias']
  with pytest.raises(UserError, match=r'extra.0, .* 2 more; .*last_dense/bias'):
    convert(state | extra)
  out = capsys.readouterr().out
  assert 'missing        1  last_dense/bias\n' in out
  assert 'unexpected     5  extra.0, extra.1, extra.2 and 2 more\n' in out


@pytest.mark.parametrize(
  ('missing', 'message'),
  [
    ('tok_emb.weight', 'there is no official entry tok_emb.weight'),
    ('bias', 'there is no official entry bias'),
    (
      'transformer.layers.1.1.fn.net.3.bias',
      r'no official entry sets layers \[1\] of layers/mlp_out/bias',
    ),
  ],
)
def test_a_missing_entry_is_named(maskgit, missing, message):
  state, convert = maskgit
  del state[missing]
  with pytest.raises(UserError, match=message):
    convert(state)


def test_a_checkpoint_of_another_family_is_named(maskgit):
  state, convert = maskgit
  with pytest.raises(UserError, match='of the family maskgit, not maskbit'):
    convert(state, family='maskbit', overrides={})
  with pytest.raises(UserError, match='not a maskbit checkpoint: there is no'):
    convert({'weight': np.zeros(2, np.float32)}, family='maskbit', overrides={})


def test_entries_under_a_prefix_are_found_with_a_flag(maskgit):
  state, convert = maskgit
  state = {f'student.{name}': array for name, array in state.items()}
  state |= {'teacher.x': np.zeros(2, np.float32)}
  with pytest.raises(UserError, match='give --tree=student'):
    convert(state)


def test_overrides_must_fit(maskgit):
  state, convert = maskgit
  for overrides, message in (
    ({'num_classes': 5, 'num_heads': 5}, 'width 32 is not divisible by 5'),
    ({'num_heads': 4}, 'too small for 1000 classes; give --num_classes'),
    ({'num_groups': 2}, 'maskgit does not take --num_groups'),
  ):
    with pytest.raises(UserError, match=message):
      convert(state, overrides=overrides)


def test_impossible_shapes_are_refused(maskgit):
  state, convert = maskgit
  for change, message in (
    ({'tok_emb.weight': np.zeros(3, np.float32)}, 'not fit any maskgit'),
    ({'pos_emb': np.zeros((1, 9, 32), np.float32)}, 'pos_emb has shape'),
  ):
    with pytest.raises(UserError, match=message):
      convert(state | change)


def test_a_folder_is_never_overwritten(maskgit, tmp_path):
  state, convert = maskgit
  convert(state)
  before = (tmp_path / 'out' / 'model.json').stat().st_mtime_ns
  with pytest.raises(UserError, match='out exists'):
    convert(state)
  assert (tmp_path / 'out' / 'model.json').stat().st_mtime_ns == before


def test_a_killed_conversion_leaves_no_folder(maskgit, monkeypatch):
  state, convert = maskgit

  def killed(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(folder.checkpoint, 'save_params', killed)
    with pytest.raises(KeyboardInterrupt):
      convert(state)
  convert(state)


@pytest.mark.parametrize(
  ('request_', 'message'),
  [
    ({}, 'give --weights to convert, or --manifest'),
    ({'weights': 'x.pth'}, 'give --out'),
    ({'weights': 'x.pth', 'check': True, 'out': 'o'}, 'give --out'),
    ({'manifest': 'm.json', 'out': 'o'}, 'add --check'),
    ({'weights': 'x.pth', 'manifest': 'm.json', 'check': True}, 'give --wei'),
    ({'manifest': 'm.json', 'check': True, 'tree': 'a'}, '--tree is for'),
    ({'weights': './no/such/x.pth', 'out': 'o'}, 'x.pth is neither a file'),
  ],
)
def test_inconsistent_flags_are_refused(request_, message):
  paths = {k: pathlib.Path(v) for k, v in request_.items() if k[0] in 'om'}
  with pytest.raises(UserError, match=message):
    command.run(command.Conversion('maskgit', **(request_ | paths)))


def test_other_folders_are_refused(maskgit, tmp_path):
  state, convert = maskgit
  with pytest.raises(UserError, match='is not a converted checkpoint'):
    folder.load_converted(tmp_path)
  convert(state)
  out = tmp_path / 'out'
  with pytest.raises(UserError, match='contains maskgit, expected maskbit'):
    folder.load_converted(out, 'maskbit')
  model = json.loads((out / 'model.json').read_text())
  del model['crc32']  # earlier versions stored none
  for text in (
    json.dumps(model | {'family': 'dalle'}),
    json.dumps(model | {'options': {'depht': 2}}),
    json.dumps(model | {'options': None}),
  ):
    (out / 'model.json').write_text(text)
    with pytest.raises(UserError, match='a model unknown to this version'):
      folder.load_converted(out)
  for text in ('{', '[]'):
    (out / 'model.json').write_text(text)
    with pytest.raises(UserError, match='cannot be read'):
      folder.load_converted(out)


@pytest.mark.command
def test_the_command_downloads_and_converts(tmp_path):
  """The Hub's own code, with a folder as its cache and no network."""
  case = CASES['bits']
  repo = tmp_path / 'models--org--maskbit_10bit'
  snapshot = repo / 'snapshots' / ('0' * 40)
  snapshot.mkdir(parents=True)
  (repo / 'refs').mkdir()
  (repo / 'refs' / 'main').write_text('0' * 40)
  case.write(snapshot, case.state_dict())
  succeeds(
    process(
      'convert',
      '--family=maskbit',
      '--num_heads=4',
      f'--weights=org/maskbit_10bit/{case.file}',
      f'--out={tmp_path / "out"}',
      HF_HUB_CACHE=str(tmp_path),
      HF_HUB_OFFLINE='1',
    )
  )
  module, params = folder.load_converted(tmp_path / 'out', 'maskbit')
  assert module == case.module()
  tokens = np.zeros((2, module.length, module.num_groups), np.int32)
  output = jax.jit(module.apply)({'params': params}, tokens, LABELS)
  assert np.isfinite(output.logits).all()


def test_the_command_refuses_in_one_sentence(tmp_path):
  file, trace = tmp_path / 'evil.pth', tmp_path / 'trace'
  torch_format.save(file, {'weight': Call('os.system', f'touch {trace}')})
  out = tmp_path / 'out'
  arguments = ('--family=maskgit', f'--weights={file}', f'--out={out}')
  fails(call('convert', *arguments), f'error: {file}: rejected', 'os.system')
  assert not trace.exists() and not out.exists()
