"""FID's Inception: listing, sizes, files, and all possible failures."""

import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from softdimo_jax.convert import command, folder, registry, sources
from softdimo_jax.convert.inception import convert_inception
from softdimo_jax.convert.rule_weights import rule_state_dict
from softdimo_jax.convert.tree import ConversionError
from softdimo_jax.errors import UserError
from softdimo_jax.networks.inception import Inception
from tests.convert import torch_format

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
MANIFEST = GOLDEN / 'fid_inception_full.json'
SMALL = Inception(width=2, num_classes=1008)
FIRST = 'Conv2d_1a_3x3.bn.running_mean'


def narrow(name, shape):
  """The shape of an entry with a sixteenth of the channels."""
  fixed = 0 if name.startswith('fc') else None  # classes
  axes = range(min(len(shape), 2))
  return tuple(
    size if i == fixed or size == 3 or i not in axes else size // 16
    for i, size in enumerate(shape)
  )


@pytest.fixture(scope='module')
def state():
  """A small state dict under the official names."""
  listing = sources.load_listing(MANIFEST)
  return rule_state_dict(
    (name, narrow(name, x.shape), str(x.dtype)) for name, x in listing.items()
  )


def test_the_listing_is_covered(capsys):
  command.run(command.Conversion('inception', manifest=MANIFEST, check=True))
  lines = capsys.readouterr().out.splitlines()
  counts = {line.split()[0]: line.split()[1] for line in lines}
  assert (counts['used'], counts['ignored']) == ('472', '94')
  assert counts['missing'] == counts['unexpected'] == '0'
  assert lines[-1] == '23,885,392 parameters'


def test_sizes_are_inferred_from_shapes(state):
  listing = sources.load_listing(MANIFEST)
  build = lambda entries: registry.build(
    'inception', registry.infer('inception', entries, {})
  )
  assert build(listing) == Inception()
  assert build(state) == SMALL


@pytest.mark.parametrize('extension', ['.pth', '.safetensors'])
def test_a_file_becomes_a_folder_and_a_module(state, extension, tmp_path):
  """With the counters of torch-fidelity's file, and without them."""
  file = tmp_path / f'weights-inception{extension}'
  if extension == '.pth':
    counter = 'Mixed_6d.branch1x1.bn.num_batches_tracked'
    torch_format.save(file, state | {counter: np.zeros((), np.int64)})
  else:
    safetensors.numpy.save_file(state, file)
  out = tmp_path / 'out'
  command.run(command.Conversion('inception', str(file), out=out))
  module, params = folder.load_converted(out, 'inception')
  assert module == SMALL
  direct, _ = convert_inception(state, module)
  jax.tree.map(np.testing.assert_array_equal, params, direct)
  assert all(x.dtype == np.float32 for x in jax.tree.leaves(params))


def test_entries_go_where_they_belong(state):
  params, _ = convert_inception(state, SMALL)
  unit = params['Mixed_6c']['branch7x7_2']
  official = 'Mixed_6c.branch7x7_2'
  assert unit['conv']['kernel'].shape == (1, 7, 10, 10)
  np.testing.assert_array_equal(
    unit['conv']['kernel'][0, 5, 2, 7],
    state[f'{official}.conv.weight'][7, 2, 0, 5],
  )
  for leaf, entry in (
    ('scale', 'weight'),
    ('bias', 'bias'),
    ('running_mean', 'running_mean'),
    ('running_var', 'running_var'),
  ):
    np.testing.assert_array_equal(
      unit['norm'][leaf], state[f'{official}.bn.{entry}']
    )
  np.testing.assert_array_equal(params['fc']['kernel'], state['fc.weight'].T)
  np.testing.assert_array_equal(params['fc_bias'], state['fc.bias'])


def test_missing_and_unknown_entries_are_refused(state):
  # NVIDIA's file has no scales; torchvision's has a second classifier.
  for lacking, path in (
    (FIRST, 'Conv2d_1a_3x3/norm/running_mean'),
    ('Mixed_7c.branch1x1.bn.weight', 'Mixed_7c/branch1x1/norm/scale'),
    ('fc.bias', 'fc_bias'),
  ):
    less = {name: x for name, x in state.items() if name != lacking}
    with pytest.raises(ConversionError, match=f'sets the parameters {path}'):
      convert_inception(less, SMALL)
  for more, message in (
    ('AuxLogits.fc.bias', r'no rule matches .* AuxLogits\.fc\.bias'),
    ('Mixed_5b.branch1x1.bn.running_std', 'no parameter Mixed_5b/branch1x1'),
    ('Mixed_5e.branch1x1.bn.bias', 'no parameter Mixed_5e/branch1x1'),
  ):
    with pytest.raises(ConversionError, match=message):
      convert_inception(state | {more: state[FIRST]}, SMALL)


def test_a_layer_of_another_size_is_refused(state):
  changed = {'Mixed_6b.branch_pool.bn.bias': np.zeros(5, np.float32)}
  with pytest.raises(ConversionError, match=r'bias has shape \(5,\), expected'):
    convert_inception(state | changed, SMALL)


def test_torchvisions_network_is_refused(state, tmp_path):
  file = tmp_path / 'inception_v3.safetensors'
  thousand = {
    name: np.ascontiguousarray(state[name][:1000])
    for name in ('fc.weight', 'fc.bias')
  }
  safetensors.numpy.save_file(state | thousand, file)
  with pytest.raises(UserError, match="torchvision's Inception"):
    command.run(command.Conversion('inception', str(file), check=True))


def test_other_checkpoints_are_refused():
  listing = sources.load_listing(GOLDEN / 'clip_vit_b32_full.json')
  with pytest.raises(ConversionError, match='family clip, not inception'):
    registry.infer('inception', listing, {})
  with pytest.raises(ConversionError, match=r'entry Conv2d_1a_3x3\.conv'):
    registry.infer('inception', {}, {})
