"""`--check` of every official listing, and the modules inferred from it."""

import json
import pathlib

import pytest

from softdimo_jax.convert import command, registry, sources
from softdimo_jax.parity import official_generators, official_tokenizers

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'

# Listing -> family, number of parameters.
LISTINGS = {
  'maskgit_transformer': ('maskgit', 174_160_874),
  'maskgit_transformer_512': ('maskgit', 176_306_666),
  'maskgit_vqgan': ('taming_vqgan', 72_141_699),
  'maskbit_generator_10bit': ('maskbit', 304_728_128),
  'maskbit_generator_12bit': ('maskbit', 304_795_776),
  'maskbit_generator_14bit': ('maskbit', 304_929_024),
  'maskbit_generator_16bit': ('maskbit', 305_193_472),
  'maskbit_generator_18bit': ('maskbit', 305_720_320),
  'maskbit_tokenizer_10bit': ('maskbit_tokenizer', 54_469_005),
  'maskbit_tokenizer_12bit': ('maskbit_tokenizer', 54_479_247),
  'maskbit_tokenizer_14bit': ('maskbit_tokenizer', 54_489_489),
  'maskbit_tokenizer_16bit': ('maskbit_tokenizer', 54_499_731),
  'maskbit_tokenizer_18bit': ('maskbit_tokenizer', 54_509_973),
  'maskbit_vqgan_plus_10bit': ('maskbit_tokenizer', 55_990_915),
  'maskbit_vqgan_plus_12bit': ('maskbit_tokenizer', 55_007_683),
  'maskbit_external_maskgit_tokenizer': ('maskbit_tokenizer', 54_515_587),
  'google_transformer': ('google_maskgit', 172_457_193),
  'google_transformer_512': ('google_maskgit', 173_047_017),
  'google_tokenizer': ('google_tokenizer', 54_515_587),
}
OFFICIAL = {
  'maskgit': official_generators.maskgit_transformer,
  'taming_vqgan': official_tokenizers.taming_vqgan,
  'maskbit': official_generators.maskbit_generator,
  'google_maskgit': official_generators.google_transformer,
  'google_tokenizer': official_tokenizers.google_tokenizer,
}


def manifest(name):
  return GOLDEN / f'{name}_full.json'


def test_every_listing_of_these_families_is_here():
  names = [
    file.name.removesuffix('_full.json')
    for kind in ('maskgit', 'maskbit', 'google')
    for file in GOLDEN.glob(f'{kind}_*_full.json')
  ]
  assert sorted(names) == sorted(LISTINGS)


@pytest.mark.parametrize('name', LISTINGS)
def test_listings_are_covered(name, capsys):
  family, parameters = LISTINGS[name]
  meta = json.loads(manifest(name).read_text())
  command.run(
    command.Conversion(family=family, manifest=manifest(name), check=True)
  )
  lines = capsys.readouterr().out.splitlines()
  counts = {line.split()[0]: line.split()[1:] for line in lines}
  kept = len(meta['kept'])
  assert int(counts['used'][0]) == meta['n_entries'] - kept
  assert int(counts['ignored'][0]) == kept
  assert counts['missing'] == counts['unexpected'] == ['0']
  assert lines[-1] == f'{parameters:,} parameters'


@pytest.mark.parametrize('name', LISTINGS)
def test_sizes_are_inferred_from_shapes(name):
  family, _ = LISTINGS[name]
  config = json.loads(manifest(name).read_text())['config']
  listing = sources.load_listing(manifest(name))
  module = registry.build(family, registry.infer(family, listing, {}))
  if family == 'maskbit_tokenizer':
    groups = 2 if config['quantizer_type'] == 'lookup-free' else 1
    assert module == official_tokenizers.maskbit_tokenizer(
      config, num_groups=groups
    )
  else:
    assert module == OFFICIAL[family](config)
