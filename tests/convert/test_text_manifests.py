"""Listings of the text-to-image families: `--check`, sizes, aliases."""

import json
import pathlib

import pytest
import safetensors.numpy

from softdimo_jax.convert import command, folder, registry, sources
from softdimo_jax.parity import (
  official_generators,
  official_tokenizers,
  official_towers,
)
from tests.golden.weights import load

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'

# Listing -> family, overrides, number of parameters, number of ignored entries.
LISTINGS = {
  'maskgen_generator': ('maskgen', {}, 604_311_552, ['lm_head.weight']),
  'maskgen_generator_xl': ('maskgen', {}, 1_176_611_840, ['lm_head.weight']),
  'tatitok': ('tatitok', {}, 391_046_292, ['quantize.embed_prob']),
  'meissonic_transformer': ('meissonic', {}, 1_006_946_304, []),
  'meissonic_transformer_nodown': ('meissonic', {}, 998_555_648, []),
  'meissonic_vq': ('meissonic_vq', {}, 146_244_675, []),
  'clip_text': ('clip_text', {'activation': 'gelu'}, 354_032_640, []),
  'clip_text_quick': (
    'clip_text',
    {'activation': 'quick_gelu'},
    123_650_304,
    [],
  ),
  'openclip_text': (
    'openclip_text',
    {'activation': 'quick_gelu'},
    123_650_304,
    ['logit_scale'],
  ),
}
OFFICIAL = {
  'maskgen': official_generators.maskgen,
  'tatitok': official_tokenizers.tatitok,
  'meissonic': official_generators.meissonic,
  'meissonic_vq': official_tokenizers.diffusers_vq,
  'clip_text': official_towers.clip_text,
  'openclip_text': official_towers.openclip_text,
}


def manifest(name):
  return GOLDEN / f'{name}_full.json'


@pytest.mark.parametrize('name', LISTINGS)
def test_listings_are_covered(name, capsys):
  family, overrides, parameters, ignored = LISTINGS[name]
  meta = json.loads(manifest(name).read_text())
  command.run(
    command.Conversion(
      family=family, manifest=manifest(name), check=True, overrides=overrides
    )
  )
  lines = capsys.readouterr().out.splitlines()
  counts = {line.split()[0]: line.split()[1:] for line in lines}
  assert int(counts['used'][0]) == meta['n_entries'] - len(ignored)
  assert counts['ignored'] == [str(len(ignored)), *ignored]
  assert counts['missing'] == counts['unexpected'] == ['0']
  assert lines[-1] == f'{parameters:,} parameters'


@pytest.mark.parametrize('name', LISTINGS)
def test_sizes_are_inferred_from_shapes(name):
  family, overrides, *_ = LISTINGS[name]
  config = json.loads(manifest(name).read_text())['config']
  listing = sources.load_listing(manifest(name))
  module = registry.build(family, registry.infer(family, listing, overrides))
  assert module == OFFICIAL[family](config)


def test_text_towers_are_found_in_whole_models():
  """Older files also contain position ids."""
  more = ['vision_model.x.weight', 'visual_projection.weight', 'logit_scale']
  for name in ('clip_text', 'openclip_text'):
    listing = sources.load_listing(manifest(name))
    if name == 'openclip_text':
      more = ['visual.conv1.weight', 'input_resolution', 'vocab_size']
    else:
      more = [*more, 'text_model.embeddings.position_ids']
    whole = listing | dict.fromkeys(more, listing[next(iter(listing))])
    options = registry.infer(name, listing, {'activation': 'gelu'})
    module = registry.build(name, options)
    _, report = registry.FORMATS[name].convert(whole, module)
    assert set(more) <= set(report.ignored)


def test_the_usage_of_codes_is_optional():
  listing = sources.load_listing(manifest('tatitok'))
  del listing['quantize.embed_prob']
  module = registry.build('tatitok', registry.infer('tatitok', listing, {}))
  _, report = registry.FORMATS['tatitok'].convert(listing, module)
  assert report.ignored == ()


@pytest.mark.parametrize(
  ('option', 'value'),
  [
    ('quantize_mode', 'vae'),
    ('is_legacy', True),
    ('vit_dec_model_size', 'huge'),
  ],
)
def test_variants_of_tatitok_without_a_module_are_refused(option, value):
  config = json.loads(manifest('tatitok').read_text())['config']
  config['model']['vq_model'][option] = value
  with pytest.raises(ValueError, match=r'supported|huge'):
    official_tokenizers.tatitok(config)


def test_tatitok_without_a_quantize_mode_has_a_codebook():
  config = json.loads(manifest('tatitok').read_text())['config']
  module = official_tokenizers.tatitok(config)
  del config['model']['vq_model']['quantize_mode']
  assert official_tokenizers.tatitok(config) == module


@pytest.mark.parametrize(
  ('option', 'value'),
  [('no_causal_mask', True), ('norm_kwargs', {'eps': 1e-6})],
)
def test_options_of_other_open_clip_towers_are_refused(option, value):
  config = json.loads(manifest('openclip_text').read_text())['config']
  config['text_cfg'][option] = value
  with pytest.raises(ValueError, match=f'{option} .+ is unknown'):
    official_towers.openclip_text(config)


def test_an_unknown_activation_is_refused():
  config = json.loads(manifest('clip_text').read_text())['config']
  with pytest.raises(ValueError, match="hidden_act 'relu' is unknown"):
    official_towers.clip_text(config | {'hidden_act': 'relu'})


@pytest.mark.parametrize(
  ('name', 'family', 'overrides'),
  [
    (
      'clip_text',
      'clip_text',
      {'num_heads': 2, 'activation': 'gelu'},
    ),
    (
      'openclip_text',
      'openclip_text',
      {'num_heads': 4, 'activation': 'quick_gelu'},
    ),
  ],
)
def test_a_tower_of_a_file_becomes_a_folder_and_a_module(
  name, family, overrides, tmp_path
):
  meta, state, _ = load(GOLDEN, name)
  file = tmp_path / 'model.safetensors'
  safetensors.numpy.save_file(state, file)
  command.run(
    command.Conversion(
      family=family,
      weights=str(file),
      out=tmp_path / 'out',
      overrides=overrides,
    )
  )
  module, params = folder.load_converted(tmp_path / 'out', family)
  assert module == OFFICIAL[family](meta['config']['model'])
  assert params['projection'].shape == (32, module.projection_width)
