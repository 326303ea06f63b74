"""MaskGit checkpoints -> `MaskGitTransformer` parameters.

The whole official table and bias are kept, also the rows that never reach an
output (the bias of classes and of the class position).
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from softdimo_jax.convert import tree
from softdimo_jax.convert.block import block_rules
from softdimo_jax.networks.generators.maskgit import MaskGitTransformer

RULES = (
  tree.Rule(r'tok_emb\.weight', 'tok_emb'),
  tree.Rule('pos_emb', 'pos_emb', lambda array: array[0]),
  tree.Rule('bias', 'logit_bias'),
  *tree.norm(r'first_layer\.0', 'first_norm_0'),
  *tree.linear(r'first_layer\.2', 'first_dense_0'),
  *tree.norm(r'first_layer\.4', 'first_norm_1'),
  *tree.linear(r'first_layer\.6', 'first_dense_1'),
  *block_rules(r'fn\.', mlp_out=3),
  *tree.norm(r'last_layer\.0', 'last_norm_0'),
  *tree.linear(r'last_layer\.2', 'last_dense'),
  *tree.norm(r'last_layer\.4', 'last_norm_1'),
)


def convert_maskgit(
  state_dict: Mapping[str, tree.Array], generator: MaskGitTransformer
) -> tuple[tree.Params, tree.Report]:
  """Official `MaskTransformer` state dict -> parameters of `generator`.

  Args:
    state_dict: `model_state_dict` of a Halton-MaskGIT .pth, or the bare file
      of the released Di[M]O student.
    generator: module of the checkpoint's configuration.

  Raises:
    ConversionError: if the two do not fit.
  """
  tokens = jax.ShapeDtypeStruct((1, generator.length, 1), jnp.int32)
  labels = jax.ShapeDtypeStruct((1,), jnp.int32)
  target = tree.parameter_shapes(generator, tokens, labels)
  return tree.convert(state_dict, RULES, target)
