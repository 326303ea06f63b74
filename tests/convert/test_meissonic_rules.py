"""Meissonic files: the mask's row, coverage, and tiny conversions."""

import pathlib

import numpy as np
import pytest
import safetensors.numpy

from softdimo_jax.convert import command, folder, tree
from softdimo_jax.convert.diffusers_vq import convert_diffusers_vq
from softdimo_jax.convert.meissonic import convert_meissonic
from softdimo_jax.errors import UserError
from softdimo_jax.parity import official_generators, official_tokenizers
from tests.golden.weights import load

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
META, STATE, _ = load(GOLDEN, 'meissonic_transformer')
CONFIG = META['config']['model']
MODULE = official_generators.meissonic(CONFIG)
VQ_META, VQ_STATE, _ = load(GOLDEN, 'meissonic_vq')
VQ_CONFIG = VQ_META['config']['model']
VQ_MODULE = official_tokenizers.diffusers_vq(VQ_CONFIG)

CASES = {
  'generator': (convert_meissonic, STATE, MODULE, 'project_to_hidden.weight'),
  'tokenizer': (convert_diffusers_vq, VQ_STATE, VQ_MODULE, 'quant_conv.bias'),
}


def test_the_row_of_the_mask_follows_the_codes():
  params, _ = convert_meissonic(STATE, MODULE)
  table, codes = STATE['embed.embeddings.weight'], CONFIG['codebook_size']
  assert MODULE.spare_rows == 7
  np.testing.assert_array_equal(params['tok_emb'][:codes], table[:codes])
  np.testing.assert_array_equal(params['tok_emb'][codes], table[-1])
  np.testing.assert_array_equal(params['tok_emb'][codes + 1 :], table[codes:-1])


def test_without_down_sampling_there_are_no_layers_for_it():
  meta, state, _ = load(GOLDEN, 'meissonic_transformer_nodown')
  module = official_generators.meissonic(meta['config']['model'])
  assert module.grid == (32, 32)
  params, report = convert_meissonic(state, module)
  assert len(report.used) == len(state)
  assert not {'down', 'down_norm', 'up', 'up_norm'} & params.keys()
  down = [name for name in STATE if name.startswith('down_block')]
  with pytest.raises(tree.ConversionError, match='has no parameter down'):
    convert_meissonic(state | {down[0]: STATE[down[0]]}, module)


@pytest.mark.parametrize('name', CASES)
def test_missing_and_unknown_entries_are_refused(name):
  convert, state, module, entry = CASES[name]
  _, report = convert(state, module)
  assert set(report.used) == set(state)
  less = {key: value for key, value in state.items() if key != entry}
  with pytest.raises(tree.ConversionError, match='no official entry sets'):
    convert(less, module)
  with pytest.raises(
    tree.ConversionError, match=r'matches the .* entries nonsense'
  ):
    convert(state | {'nonsense': state[entry]}, module)
  with pytest.raises(tree.ConversionError, match='has shape'):
    convert(state | {entry: state[entry][:-1]}, module)


def test_attention_in_the_middle_becomes_convolutions():
  """No released tokenizer of Meissonic has it, but the class allows it."""
  module = official_tokenizers.diffusers_vq(
    VQ_CONFIG | {'mid_block_add_attention': True}
  )
  width, rng = module.level_channels[-1], np.random.default_rng(0)
  more = {}
  for coder in ('encoder', 'decoder'):
    name = f'{coder}.mid_block.attentions.0'
    for layer in ('to_q', 'to_k', 'to_v', 'to_out.0'):
      more[f'{name}.{layer}.weight'] = rng.normal(size=(width, width))
      more[f'{name}.{layer}.bias'] = rng.normal(size=width)
    more[f'{name}.group_norm.weight'] = rng.normal(size=width)
    more[f'{name}.group_norm.bias'] = rng.normal(size=width)
  params, report = convert_diffusers_vq(VQ_STATE | more, module)
  assert len(report.used) == len(VQ_STATE) + len(more)
  np.testing.assert_array_equal(
    params['decoder']['mid_attn_1']['proj_out']['kernel'][0, 0],
    more['decoder.mid_block.attentions.0.to_out.0.weight'].T.astype('f'),
  )


def test_levels_of_the_decoder_count_from_the_other_end():
  params, _ = convert_diffusers_vq(VQ_STATE, VQ_MODULE)
  np.testing.assert_array_equal(
    params['decoder']['up_0_block_0']['conv1']['bias'],
    VQ_STATE['decoder.up_blocks.2.resnets.0.conv1.bias'],
  )


def test_a_file_becomes_a_folder_and_a_module(tmp_path):
  file = tmp_path / 'model.safetensors'
  safetensors.numpy.save_file(
    {f'_orig_mod.{name}': array for name, array in STATE.items()}, file
  )
  out = tmp_path / 'out'
  command.run(
    command.Conversion(family='meissonic', weights=str(file), out=out)
  )
  module, params = folder.load_converted(out, 'meissonic')
  assert module == MODULE
  assert params['joint_layers']['text']['query_norm']['scale'].shape == (2, 16)


def test_a_tokenizer_is_not_taken_for_tamings(tmp_path):
  file = tmp_path / 'model.safetensors'
  safetensors.numpy.save_file(VQ_STATE, file)
  with pytest.raises(UserError, match='of the family meissonic_vq, not taming'):
    command.run(
      command.Conversion(family='taming_vqgan', weights=str(file), check=True)
    )


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'guidance_embeds': True}, 'guidance_embeds'),
    ({'upsample': False}, 'downsample = upsample'),
    ({'pooled_projection_dim': 8}, 'pooled_projection_dim is 8'),
  ],
)
def test_generators_without_a_module_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    official_generators.meissonic(CONFIG | options)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'norm_type': 'spatial'}, 'norm_type'),
    ({'act_fn': 'relu'}, 'act_fn'),
    ({'up_block_types': ['AttnUpDecoderBlock2D']}, 'blocks'),
  ],
)
def test_tokenizers_without_a_module_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    official_tokenizers.diffusers_vq(VQ_CONFIG | options)
