"""Whole CLIP models of both layouts: listings, sizes, files."""

import json
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from softdimo_jax.convert import command, folder, registry, sources
from softdimo_jax.convert.clip import convert_clip
from softdimo_jax.convert.tree import ConversionError
from softdimo_jax.parity import official_towers
from tests.convert import torch_format
from tests.convert.listings import check_refusal
from tests.golden.weights import load

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'

# Listing -> number of parameters.
LISTINGS = {
  'clip_vit_b32': 151_277_313,
  'clip_vit_l14': 427_616_513,
  'clip_vit_l14_336': 427_944_193,
  'clip_vit_h14': 986_109_441,
  'openclip_vit_b_32': 151_277_313,
  'openclip_vit_l_14': 427_616_513,
  'openclip_vit_h_14': 986_109_441,
  'openclip_vit_g_14': 1_366_678_273,
}
# Fixture -> overrides, and one entry of the image tower.
FIXTURES = {
  'clip_model_gelu': (
    {'num_heads': 2, 'text_heads': 4, 'activation': 'gelu'},
    'vision_model.pre_layrnorm.bias',
  ),
  'openclip_model_quick': (
    {'num_heads': 4, 'text_heads': 4, 'activation': 'quick_gelu'},
    'visual.ln_pre.bias',
  ),
}
EACH = pytest.mark.parametrize('name', FIXTURES)


def manifest(name):
  return GOLDEN / f'{name}_full.json'


def build(name, config):
  return (
    official_towers.openclip if 'openclip' in name else official_towers.clip
  )(config)


def example(name):
  """State dict and module of a fixture."""
  meta, state, _ = load(GOLDEN, name)
  return state, build(name, meta['config'])


def test_every_listing_is_here():
  names = [
    file.name.removesuffix('_full.json')
    for file in GOLDEN.glob('*clip_vit_*_full.json')
  ]
  assert sorted(names) == sorted(LISTINGS)


@pytest.mark.parametrize('name', LISTINGS)
def test_listings_are_covered(name, capsys):
  meta = json.loads(manifest(name).read_text())
  command.run(
    command.Conversion(
      family='clip',
      manifest=manifest(name),
      check=True,
      overrides={'activation': 'gelu'},
    )
  )
  lines = capsys.readouterr().out.splitlines()
  counts = {line.split()[0]: line.split()[1] for line in lines}
  assert int(counts['used']) == len(meta['entries'])
  assert counts['ignored'] == counts['missing'] == counts['unexpected'] == '0'
  assert lines[-1] == f'{LISTINGS[name]:,} parameters'
  assert meta['params'] == LISTINGS[name]


@pytest.mark.parametrize('name', LISTINGS)
def test_sizes_are_inferred_from_shapes(name):
  config = json.loads(manifest(name).read_text())['config']
  listing = sources.load_listing(manifest(name))
  expected = build(name, config)
  given = {'activation': expected.text.activation}
  assert registry.build('clip', registry.infer('clip', listing, given)) == (
    expected
  )


@EACH
@pytest.mark.parametrize('extension', ['.safetensors', '.pt'])
def test_a_file_becomes_a_folder_and_a_module(name, extension, tmp_path):
  """Half precision under "state_dict" in a torch file, as HPSv2's."""
  state, module = example(name)
  state = {key: np.asarray(x, np.float16) for key, x in state.items()}
  file = tmp_path / f'model{extension}'
  if extension == '.pt':
    torch_format.save(file, {'state_dict': state})
  else:
    safetensors.numpy.save_file(state, file)
  out = tmp_path / 'out'
  command.run(
    command.Conversion('clip', str(file), out=out, overrides=FIXTURES[name][0])
  )
  loaded, params = folder.load_converted(out, 'clip')
  assert loaded == module
  direct, _ = convert_clip(state, module)
  jax.tree.map(np.testing.assert_array_equal, params, direct)
  assert all(x.dtype == np.float32 for x in jax.tree.leaves(params))


@EACH
def test_missing_and_unknown_entries_are_refused(name):
  state, module = example(name)
  _, entry = FIXTURES[name]
  more = {'visual.ln_mid.weight': state[entry]}
  with pytest.raises(ConversionError, match=r'no rule.* visual\.ln_mid'):
    convert_clip(state | more, module)
  for lacking, path in (
    (entry, 'image/initial_norm/bias'),
    ('logit_scale',) * 2,
  ):
    less = {key: x for key, x in state.items() if key != lacking}
    with pytest.raises(ConversionError, match=f'sets the parameters {path}'):
      convert_clip(less, module)


def test_constants_of_older_files_are_ignored():
  for name, constants in (
    (
      'clip_model_gelu',
      [f'{half}_model.embeddings.position_ids' for half in ('text', 'vision')],
    ),
    (
      'openclip_model',
      ['input_resolution', 'context_length', 'vocab_size'],
    ),
  ):
    state, module = example(name)
    ids = np.arange(3)[None]
    _, report = convert_clip(state | dict.fromkeys(constants, ids), module)
    assert report.ignored == tuple(constants)


def test_layouts_make_the_same_parameters():
  """One has query, key and value in one matrix, and projections [in, out]."""
  state, module = example('openclip_model')
  params, _ = convert_clip(state, module)
  rows = np.split(
    state['visual.transformer.resblocks.1.attn.in_proj_weight'], 3
  )
  attention = params['image']['layers']['attention']
  for part, weight in zip(('query', 'key', 'value'), rows, strict=True):
    np.testing.assert_array_equal(attention[part]['kernel'][1], weight.T)
  for tower, entry in (('image', 'visual.proj'), ('text', 'text_projection')):
    np.testing.assert_array_equal(params[tower]['projection'], state[entry])
  state, module = example('clip_model_gelu')
  params, _ = convert_clip(state, module)
  for tower, entry in (('image', 'visual'), ('text', 'text')):
    np.testing.assert_array_equal(
      params[tower]['projection'], state[f'{entry}_projection.weight'].T
    )


def test_whole_models_and_text_towers_are_distinguished():
  text = sources.load_listing(GOLDEN / 'openclip_text_full.json')
  whole = sources.load_listing(manifest('openclip_vit_b_32'))
  with pytest.raises(ConversionError, match='family openclip_text, not clip'):
    registry.infer('clip', text, {})
  with pytest.raises(ConversionError, match='family clip, not maskgit'):
    registry.infer('maskgit', whole, {})
  with pytest.raises(
    ConversionError, match=r'entry visual_projection\.weight or visual\.conv1'
  ):
    registry.infer('clip', {}, {})


def test_heads_must_divide_the_widths(tmp_path):
  state, _ = example('openclip_model')
  message = 'width 40 is not divisible by 3 heads'
  check_refusal(
    'clip', state, tmp_path, message, num_heads=3, activation='gelu'
  )
