"""MaskGen-VQ checkpoints -> `MaskGenTransformer` parameters.

The whole official table is kept, also the rows of classes, and the last
block's queries of the text: neither reaches an output.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from softdimo_jax.convert import tree
from softdimo_jax.convert.block import joint_block_rules, modulation_rules
from softdimo_jax.networks.generators.condition import TextCondition
from softdimo_jax.networks.generators.maskgen import MaskGenTransformer

# One tensor where the head is tied: files hold both names or either.
_TABLE, _HEAD = 'embeddings.weight', 'lm_head.weight'


def maskgen_rules(depth: int, *, tied: bool) -> tuple[tree.Rule, ...]:
  """Rules of `MaskGen_VQ` with `depth` blocks, whose last one differs."""
  last = depth - 1
  if tied:
    head = (tree.Rule(r'(?:embeddings|lm_head)\.weight', 'tok_emb'),)
  else:
    head = (
      tree.Rule(r'embeddings\.weight', 'tok_emb'),
      *tree.linear('lm_head', 'head'),
    )
  return (
    *head,
    tree.Rule('pos_embed', 'pos_emb', lambda array: array[0]),
    *tree.linear('text_embed_proj', 'text_in'),
    *tree.linear('cond_pooled_proj', 'pooled_in'),
    *joint_block_rules(rf'blocks\.(?P<layer>(?!{last}\.)\d+)', 'layers'),
    *joint_block_rules(rf'blocks\.{last}', 'last', last=True),
    *modulation_rules('norm', 'final_modulation', two=True),
  )


def convert_maskgen(
  state_dict: Mapping[str, tree.Array], generator: MaskGenTransformer
) -> tuple[tree.Params, tree.Report]:
  """Official `MaskGen_VQ` state dict -> parameters of `generator`.

  Args:
    state_dict: as released; a tied head may be there under its own name, or
      instead of the table.
    generator: module of the checkpoint's configuration.

  Raises:
    ConversionError: if the two do not fit, or a tied head is not the table.
  """
  ignored = ()
  if generator.tied and {_TABLE, _HEAD} <= state_dict.keys():
    _check_tied(state_dict[_TABLE], state_dict[_HEAD])
    ignored = (r'lm_head\.weight',)
  return tree.convert(
    state_dict,
    maskgen_rules(generator.depth, tied=generator.tied),
    _target(generator),
    ignored=ignored,
  )


def _check_tied(table: tree.Array, head: tree.Array) -> None:
  same = table.shape == head.shape
  if same and not isinstance(table, jax.ShapeDtypeStruct):
    same = np.array_equal(table, head)
  if not same:
    raise tree.ConversionError(
      f'{_HEAD} is not {_TABLE}, to which the head should be tied'
    )


def _target(generator: MaskGenTransformer) -> tree.Params:
  shape = lambda *sizes: jax.ShapeDtypeStruct((1, *sizes), jnp.float32)
  width = generator.text_width
  condition = TextCondition(shape(1, width), shape(width), shape(1))
  tokens = jax.ShapeDtypeStruct((1, generator.length, 1), jnp.int32)
  return tree.parameter_shapes(generator, tokens, condition)
