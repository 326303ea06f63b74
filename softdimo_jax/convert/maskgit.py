"""MaskGit checkpoints -> `MaskGitTransformer` parameters.

The whole official table and bias are kept, even rows that reach no output (the
bias of classes and of the class position).
"""

from softdimo_jax.convert import tree
from softdimo_jax.convert.block import block_rules
from softdimo_jax.convert.format import CheckpointFormat, Converted, StateDict
from softdimo_jax.convert.shapes import (
  Options,
  Shapes,
  codes,
  generator_params,
  heads,
)
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
  state_dict: StateDict, generator: MaskGitTransformer
) -> Converted:
  """Official `MaskTransformer` state dict -> parameters of `generator`.

  It is the `model_state_dict` of a Halton-MaskGIT .pth, or the file of the
  released Di[M]O student itself.
  """
  target = generator_params(generator)
  return tree.convert(state_dict, RULES, target)


def maskgit_options(
  shapes: Shapes, *, num_heads: int = 16, num_classes: int = 1000
) -> Options:
  """Options of `MaskGitTransformer`, whose table has codes and classes."""
  rows, width = shapes['tok_emb.weight']
  return {
    'vocab_size': codes(rows, num_classes, others=2),
    'num_classes': num_classes,
    'length': shapes['bias'][0] - 1,
    'width': width,
    'depth': shapes.count(r'transformer\.layers\.(\d+)\.'),
    'num_heads': heads(width, num_heads),
    'mlp_width': shapes['transformer.layers.0.1.fn.net.0.weight'][0],
  }


MASKGIT = CheckpointFormat(
  MaskGitTransformer, 'tok_emb.weight', maskgit_options, convert_maskgit
)
