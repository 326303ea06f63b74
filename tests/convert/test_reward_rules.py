"""ImageReward and the aesthetic predictor's head: listing, sizes, files."""

import json
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy

from softdimo_jax.convert import command, folder, registry, sources
from softdimo_jax.convert.tree import ConversionError
from softdimo_jax.parity import official_towers
from tests.convert import torch_format
from tests.convert.listings import check_refusal
from tests.golden.weights import load

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
LISTING = GOLDEN / 'blip_imagereward_full.json'

# Family -> fixture, constructor from official arguments, overrides.
FAMILIES = {
  'image_reward': (
    'blip_imagereward',
    official_towers.image_reward,
    {'num_heads': 4, 'text_heads': 4},
  ),
  'aesthetic_head': ('aesthetic_head', official_towers.aesthetic_head, {}),
}
EACH = pytest.mark.parametrize('family', FAMILIES)
LEFT_OUT = [
  'blip.text_encoder.embeddings.position_ids',
  *(
    f'blip.{half}_proj.{leaf}'
    for half in ('vision', 'text')
    for leaf in ('weight', 'bias')
  ),
]


def example(family):
  """State dict and module of a family's fixture."""
  name, build, _ = FAMILIES[family]
  meta, state, _ = load(GOLDEN, name)
  return state, build(meta['config'])


def convert(family, state, module):
  return registry.FORMATS[family].convert(state, module)


def test_the_listing_is_covered(capsys):
  meta = json.loads(LISTING.read_text())
  command.run(
    command.Conversion(family='image_reward', manifest=LISTING, check=True)
  )
  lines = capsys.readouterr().out.splitlines()
  counts = {line.split()[0]: line.split()[1] for line in lines}
  assert len(meta['entries']) == 625
  assert int(counts['used']) == 625 - len(LEFT_OUT)
  assert int(counts['ignored']) == len(LEFT_OUT)
  assert counts['missing'] == counts['unexpected'] == '0'
  shapes = {name: shape for name, shape, _ in meta['entries']}
  unused = sum(np.prod(shapes[name]) for name in LEFT_OUT[1:])
  assert lines[-1] == f'{meta["params"] - unused:,} parameters'


def test_sizes_are_inferred_from_shapes():
  config = json.loads(LISTING.read_text())['config']
  listing = sources.load_listing(LISTING)
  options = registry.infer('image_reward', listing, {})
  assert registry.build('image_reward', options) == (
    official_towers.image_reward(config)
  )


@EACH
@pytest.mark.parametrize('extension', ['.safetensors', '.pt'])
def test_a_file_becomes_a_folder_and_a_module(family, extension, tmp_path):
  state, module = example(family)
  file = tmp_path / f'model{extension}'
  if extension == '.pt':
    torch_format.save(file, state)
  else:
    safetensors.numpy.save_file(state, file)
  out = tmp_path / 'out'
  overrides = FAMILIES[family][2]
  command.run(
    command.Conversion(family, str(file), out=out, overrides=overrides)
  )
  loaded, params = folder.load_converted(out, family)
  assert loaded == module
  direct, _ = convert(family, state, module)
  jax.tree.map(np.testing.assert_array_equal, params, direct)


def test_entries_that_no_score_reads_are_ignored():
  state, module = example('image_reward')
  ids = np.arange(3)[None]
  _, report = convert('image_reward', state | {LEFT_OUT[0]: ids}, module)
  assert sorted(report.ignored) == sorted(LEFT_OUT)


@pytest.mark.parametrize(
  ('family', 'entry', 'path'),
  [
    (
      'image_reward',
      'blip.visual_encoder.patch_embed.proj.bias',
      'image/patch_bias',
    ),
    (
      'image_reward',
      'blip.text_encoder.embeddings.LayerNorm.weight',
      'text/emb_norm/scale',
    ),
    ('image_reward', 'mlp.layers.7.bias', 'head/dense_4/bias'),
    ('aesthetic_head', 'layers.6.weight', 'dense_3/kernel'),
  ],
)
def test_missing_entries_are_named(family, entry, path):
  """The official loader of ImageReward skips them."""
  state, module = example(family)
  del state[entry]
  with pytest.raises(ConversionError, match=f'sets the parameters {path}'):
    convert(family, state, module)


@EACH
def test_unknown_entries_are_named(family):
  state, module = example(family)
  state['mlp.layers.9.weight'] = np.zeros(3, np.float32)
  with pytest.raises(ConversionError, match=r'no rule.* mlp\.layers\.9'):
    convert(family, state, module)


def test_a_missing_layer_is_named():
  state, module = example('image_reward')
  name = 'blip.text_encoder.encoder.layer.1.crossattention.self.key.weight'
  del state[name]
  with pytest.raises(
    ConversionError, match=r'layers \[1\] of text/layers/cross_attention/key'
  ):
    convert('image_reward', state, module)


def test_a_class_token_of_more_rows_is_refused():
  state, module = example('image_reward')
  name = 'blip.visual_encoder.cls_token'
  state[name] = np.repeat(state[name], 2, axis=0)
  with pytest.raises(ConversionError, match='expected one row'):
    convert('image_reward', state, module)


def test_families_are_distinguished():
  blip, _ = example('image_reward')
  head, module = example('aesthetic_head')
  with pytest.raises(
    ConversionError, match='family aesthetic_head, not image_reward'
  ):
    registry.infer('image_reward', head, {})
  with pytest.raises(ConversionError, match='family image_reward, not clip'):
    registry.infer('clip', blip, {})
  with pytest.raises(ConversionError, match=r'no official entry layers\.0'):
    convert('aesthetic_head', {}, module)


def test_heads_must_divide_the_widths(tmp_path):
  state, _ = example('image_reward')
  message = 'width 24 is not divisible by 5 heads'
  check_refusal('image_reward', state, tmp_path, message, text_heads=5)


def test_other_activations_are_refused():
  config = json.loads(LISTING.read_text())['config']
  config['bert']['hidden_act'] = 'relu'
  with pytest.raises(ValueError, match="hidden_act 'relu' is unknown"):
    official_towers.image_reward(config)
  with pytest.raises(ValueError, match="activation 'relu' is unknown"):
    official_towers.aesthetic_head({'activation': 'relu', 'hidden': [1]})
