"""The rules cover the official full-size generators, by name and shape."""

import numpy as np
import pytest

from softdimo_jax.convert import tree
from softdimo_jax.convert.google_maskgit import convert_google_maskgit
from softdimo_jax.convert.maskbit import convert_maskbit
from softdimo_jax.convert.maskgit import convert_maskgit
from softdimo_jax.networks.generators.maskbit import MaskBitTransformer
from softdimo_jax.networks.generators.maskgit import MaskGitTransformer
from softdimo_jax.parity import official_generators
from tests.convert.listings import GOLDEN, count, listing
from tests.golden.weights import load

MASKGIT = {
  'maskgit_transformer': (MaskGitTransformer(), 174_160_874),
  'maskgit_transformer_512': (MaskGitTransformer(length=1024), 176_306_666),
}
GOOGLE = {
  'google_transformer': 172_457_193,
  'google_transformer_512': 173_047_017,
}
# Bits -> number of parameters.
MASKBIT = {
  10: 304_728_128,
  12: 304_795_776,
  14: 304_929_024,
  16: 305_193_472,
  18: 305_720_320,
}


@pytest.mark.parametrize('name', MASKGIT)
def test_maskgit_checkpoints_are_covered(name):
  module, parameters = MASKGIT[name]
  meta, entries = listing(name)
  params, report = convert_maskgit(entries, module)
  assert len(report.used) == meta['n_entries'] == 305
  assert not report.ignored
  assert count(params) == meta['n_params'] == parameters
  # Whole tables, including rows that no output reads.
  assert params['tok_emb'].shape == (2026, 768)
  assert params['logit_bias'].shape == (module.length + 1, 2026)


@pytest.mark.parametrize('bits', MASKBIT)
def test_maskbit_checkpoints_are_covered(bits):
  meta, entries = listing(f'maskbit_generator_{bits}bit')
  params, report = convert_maskbit(entries, MaskBitTransformer(num_bits=bits))
  assert report.ignored == tuple(meta['kept']) == ('bits_to_indices',)
  assert len(report.used) == meta['n_entries'] - 1 == 300
  assert count(params) == meta['n_params'] == MASKBIT[bits]


@pytest.mark.parametrize('name', GOOGLE)
@pytest.mark.parametrize('root', ['params/', ''])
def test_google_checkpoints_are_covered(name, root):
  meta, entries = listing(name)
  entries = {root + k.removeprefix('params/'): v for k, v in entries.items()}
  module = official_generators.google_transformer(meta['config'])
  params, report = convert_google_maskgit(entries, module)
  assert len(report.used) == meta['n_entries'] == 393
  assert count(params) == meta['n_params'] == GOOGLE[name]
  assert params['layers']['attention']['out']['kernel'].shape == (24, 768, 768)


@pytest.mark.parametrize('name', MASKGIT)
def test_maskgit_modules_from_official_arguments(name):
  meta, _ = listing(name)
  assert (
    official_generators.maskgit_transformer(meta['config']) == MASKGIT[name][0]
  )


@pytest.mark.parametrize('bits', MASKBIT)
def test_maskbit_modules_from_official_arguments(bits):
  meta, _ = listing(f'maskbit_generator_{bits}bit')
  module = official_generators.maskbit_generator(meta['config'])
  assert module == MaskBitTransformer(num_bits=bits)


def test_the_older_name_of_the_input_projection_is_accepted():
  _, entries = listing('maskbit_generator_14bit')
  module = MaskBitTransformer()
  expected, _ = convert_maskbit(entries, module)
  renamed = {
    name.replace('input_proj', 'token_emb'): entry
    for name, entry in entries.items()
  }
  assert 'token_emb.weight' in renamed
  params, _ = convert_maskbit(renamed, module)
  assert params == expected
  with pytest.raises(tree.ConversionError, match='a second time'):
    convert_maskbit(entries | renamed, module)


def test_projections_are_split_in_the_official_order():
  """Rows of in_proj are query, key, value; layers are stacked on axis 0."""
  _, states, _ = load(GOLDEN, 'maskbit_generator')
  state = states['b10s2']
  module = MaskBitTransformer(
    num_bits=10, num_classes=5, length=16, width=32, depth=2, num_heads=4,
    mlp_width=64,
  )  # fmt: skip
  params, _ = convert_maskbit(state, module)
  for layer in range(2):
    stem = f'transformer.layers.{layer}.0.mha.in_proj'
    for index, name in enumerate(('query', 'key', 'value')):
      rows = slice(32 * index, 32 * index + 32)
      leaf = params['layers']['attention'][name]
      np.testing.assert_array_equal(
        leaf['kernel'][layer], state[f'{stem}_weight'][rows].T
      )
      np.testing.assert_array_equal(
        leaf['bias'][layer], state[f'{stem}_bias'][rows]
      )


def test_a_checkpoint_of_another_size_is_refused():
  _, entries = listing('maskgit_transformer')
  with pytest.raises(tree.ConversionError, match='has shape'):
    convert_maskgit(entries, MaskGitTransformer(length=1024))
  del entries['last_layer.2.bias']
  with pytest.raises(tree.ConversionError, match='last_dense/bias'):
    convert_maskgit(entries, MaskGitTransformer())
