"""MaskGen files: the tied head under either name, and a tiny conversion."""

import pathlib

import numpy as np
import pytest
import safetensors.numpy

from softdimo_jax.convert import command, folder, tree
from softdimo_jax.convert.maskgen import convert_maskgen
from softdimo_jax.parity import official_generators
from tests.golden.weights import load

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
META, STATE, _ = load(GOLDEN, 'maskgen_generator')
MODULE = official_generators.maskgen(META['config']['model_config'])
TABLE, HEAD = 'embeddings.weight', 'lm_head.weight'


def without(name):
  return {key: value for key, value in STATE.items() if key != name}


@pytest.mark.parametrize('name', [TABLE, HEAD])
def test_either_name_of_the_table_is_accepted(name):
  both, report = convert_maskgen(STATE, MODULE)
  assert report.ignored == (HEAD,)
  one, report = convert_maskgen(without(name), MODULE)
  assert report.ignored == ()
  np.testing.assert_array_equal(one['tok_emb'], both['tok_emb'])


def test_a_tied_head_of_other_weights_is_refused():
  with pytest.raises(tree.ConversionError, match='should be tied'):
    convert_maskgen(STATE | {HEAD: STATE[HEAD] + 1}, MODULE)


def test_scale_and_shift_are_swapped_if_there_are_two_parts():
  params, _ = convert_maskgen(STATE, MODULE)
  width = MODULE.width
  for name, modulation in (
    ('norm', params['final_modulation']),
    ('blocks.2.norm1_context', params['last']['text']['modulation']),
  ):
    scale, shift = np.split(STATE[f'{name}.linear.bias'], 2)
    np.testing.assert_array_equal(modulation['dense']['bias'][:width], shift)
    np.testing.assert_array_equal(modulation['dense']['bias'][width:], scale)
  zero = params['layers']['text']['modulation']['dense']['bias']
  np.testing.assert_array_equal(
    zero[1], STATE['blocks.1.norm1_context.linear.bias']
  )


def test_a_file_becomes_a_folder_and_a_module(tmp_path):
  file = tmp_path / 'model.safetensors'
  safetensors.numpy.save_file(without(HEAD), file)
  command.run(
    command.Conversion(
      family='maskgen',
      weights=str(file),
      out=tmp_path / 'out',
      overrides={'num_heads': 4, 'num_classes': 5},
    )
  )
  module, params = folder.load_converted(tmp_path / 'out', 'maskgen')
  assert module == MODULE
  expected, _ = convert_maskgen(STATE, MODULE)
  np.testing.assert_array_equal(params['pos_emb'], expected['pos_emb'])
