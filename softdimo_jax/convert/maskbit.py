"""MaskBit generator checkpoints -> `MaskBitTransformer` parameters."""

from softdimo_jax.convert import tree
from softdimo_jax.convert.block import block_rules
from softdimo_jax.convert.format import CheckpointFormat, Converted, StateDict
from softdimo_jax.convert.shapes import Options, Shapes, generator_params, heads
from softdimo_jax.networks.generators.maskbit import (
  MaskBitTableTransformer,
  MaskBitTransformer,
)

# One set of rules for bits (`LFQBert`) and tables (`Bert`): their names differ,
# and strict conversion reports entries that do not belong to the module.
RULES = (
  # The official loader also accepts the older name `token_emb`.
  tree.Rule(
    r'(?:input_proj|token_emb)\.weight', 'input_kernel', tree.linear_kernel
  ),
  tree.Rule(r'(?:input_proj|token_emb)\.bias', 'input_bias'),
  tree.Rule(r'tok_emb_list\.(?P<layer>\d+)\.weight', 'tok_emb'),
  tree.Rule(r'class_emb\.weight', 'class_emb'),
  tree.Rule('pos_emb', 'pos_emb', lambda array: array[0]),
  *tree.norm(r'first_layer\.0', 'first_norm'),
  *block_rules('', mlp_out=2),
  *tree.norm('norm_after_transformer', 'final_norm'),
  *tree.linear(r'last_layer\.0', 'last_dense'),
  *tree.norm(r'last_layer\.2', 'last_norm'),
  *tree.linear('prediction_layer', 'prediction'),
  tree.Rule(r'bias\.(?P<layer>\d+)', 'logit_bias'),
)

# Powers of two for the bits of an id, which the module computes itself.
IGNORED = ('bits_to_indices',)


def convert_maskbit(
  state_dict: StateDict, generator: MaskBitTransformer
) -> Converted:
  """Official `LFQBert` or `Bert` state dict -> parameters of `generator`.

  `Bert` corresponds to `MaskBitTableTransformer`.
  """
  target = generator_params(generator)
  return tree.convert(state_dict, RULES, target, ignored=IGNORED)


def maskbit_options(shapes: Shapes, *, num_heads: int = 16) -> Options:
  """Options of `MaskBitTransformer`."""
  entry = 'input_proj' if 'input_proj.weight' in shapes else 'token_emb'
  num_bits = shapes[f'{entry}.weight'][1]
  return {
    'num_bits': num_bits,
    'num_groups': _groups(shapes, num_bits),
    **_sizes(shapes, num_heads),
  }


def maskbit_table_options(shapes: Shapes, *, num_heads: int = 16) -> Options:
  """Options of `MaskBitTableTransformer`."""
  num_groups = shapes.count(r'tok_emb_list\.(\d+)')
  codes = shapes['tok_emb_list.0.weight'][0] - 1
  return {
    'num_bits': num_groups * (codes.bit_length() - 1),
    'num_groups': num_groups,
    **_sizes(shapes, num_heads),
  }


def _sizes(shapes: Shapes, num_heads: int) -> Options:
  rows, width = shapes['class_emb.weight']
  return {
    'num_classes': rows - 1,
    'length': shapes['pos_emb'][-2] - 1,
    'width': width,
    'depth': shapes.count(r'transformer\.layers\.(\d+)\.'),
    'num_heads': heads(width, num_heads),
    'mlp_width': shapes['transformer.layers.0.1.net.0.weight'][0],
    'pre_norm': 'norm_after_transformer.weight' in shapes,
  }


def _groups(shapes: Shapes, num_bits: int) -> int:
  """Number of groups; the buffer has one number per bit of a group."""
  if 'bits_to_indices' in shapes:
    return num_bits // shapes['bits_to_indices'][0]
  logits = shapes['prediction_layer.weight'][0]
  for groups in range(1, num_bits + 1):
    if num_bits % groups == 0 and groups * 2 ** (num_bits // groups) == logits:
      return groups
  raise tree.ConversionError(
    f'{logits} logits do not fit {num_bits} bits in equal groups'
  )


MASKBIT = CheckpointFormat(
  MaskBitTransformer,
  'prediction_layer.weight',
  maskbit_options,
  convert_maskbit,
)
MASKBIT_TABLE = CheckpointFormat(
  MaskBitTableTransformer,
  'tok_emb_list.0.weight',
  maskbit_table_options,
  convert_maskbit,
)
