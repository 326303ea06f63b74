"""MaskBit generator checkpoints -> `MaskBitTransformer` parameters."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from softdimo_jax.convert import tree
from softdimo_jax.convert.block import block_rules
from softdimo_jax.networks.generators.maskbit import MaskBitTransformer

# One set of rules: names tell bits (`LFQBert`) from tables (`Bert`), and
# strictness finds whatever the module lacks or has too much of.
RULES = (
  # The official loader accepts the older name `token_emb`, too.
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

# Weights of the bits of an id, which the module computes.
IGNORED = ('bits_to_indices',)


def convert_maskbit(
  state_dict: Mapping[str, tree.Array], generator: MaskBitTransformer
) -> tuple[tree.Params, tree.Report]:
  """Official `LFQBert` or `Bert` state dict -> parameters of `generator`.

  Args:
    state_dict: as released, a bare state dict.
    generator: module of the checkpoint's configuration; for `Bert` a
      `MaskBitTableTransformer`.

  Raises:
    ConversionError: if the two do not fit.
  """
  tokens = jax.ShapeDtypeStruct(
    (1, generator.length, generator.num_groups), jnp.int32
  )
  labels = jax.ShapeDtypeStruct((1,), jnp.int32)
  target = tree.parameter_shapes(generator, tokens, labels)
  return tree.convert(state_dict, RULES, target, ignored=IGNORED)
