"""MaskGen-VQ checkpoints -> `MaskGenTransformer` parameters.

All entries are kept, even those that reach no output: the table rows of classes
and the text queries of the last block.
"""

import jax
import numpy as np

from softdimo_jax.convert import tree
from softdimo_jax.convert.block import joint_block_rules, modulation_rules
from softdimo_jax.convert.format import CheckpointFormat, Converted, StateDict
from softdimo_jax.convert.shapes import (
  Options,
  Shapes,
  codes,
  generator_params,
  heads,
)
from softdimo_jax.networks.generators.maskgen import MaskGenTransformer

# One tensor if the head is tied; files contain it under either or both names.
_TABLE, _HEAD = 'embeddings.weight', 'lm_head.weight'


def maskgen_rules(depth: int, *, tied: bool) -> tuple[tree.Rule, ...]:
  """Rules of `MaskGen_VQ` with `depth` blocks; the last one differs."""
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
  state_dict: StateDict, generator: MaskGenTransformer
) -> Converted:
  """Official `MaskGen_VQ` state dict -> parameters of `generator`.

  A tied head may be present in addition to the table, which it must equal, or
  instead of it.
  """
  ignored = ()
  if generator.tied and {_TABLE, _HEAD} <= state_dict.keys():
    _check_tied(state_dict[_TABLE], state_dict[_HEAD])
    ignored = (r'lm_head\.weight',)
  return tree.convert(
    state_dict,
    maskgen_rules(generator.depth, tied=generator.tied),
    generator_params(generator),
    ignored=ignored,
  )


def _check_tied(table: tree.Array, head: tree.Array) -> None:
  same = table.shape == head.shape
  if same and not isinstance(table, jax.ShapeDtypeStruct):
    same = np.array_equal(table, head)
  if not same:
    raise tree.ConversionError(
      f'{_HEAD} differs from {_TABLE}, but the head should be tied'
    )


def maskgen_options(
  shapes: Shapes, *, num_heads: int = 16, num_classes: int | None = None
) -> Options:
  """Options of `MaskGenTransformer`; `num_classes` is needed if tied."""
  table, tied = 'embeddings.weight', 'lm_head.bias' not in shapes
  rows, width = shapes[table if table in shapes else 'lm_head.weight']
  if tied:
    num_classes = 1000 if num_classes is None else num_classes
    vocab_size = codes(rows, num_classes, others=2)
  else:
    vocab_size = shapes['lm_head.weight'][0]
    num_classes = rows - vocab_size - 2
  text_width = shapes['text_embed_proj.weight'][1]
  return {
    'vocab_size': vocab_size,
    'num_classes': num_classes,
    'length': shapes['pos_embed'][1],
    'width': width,
    'depth': shapes.count(r'blocks\.(\d+)\.'),
    'num_heads': heads(width, num_heads),
    'mlp_width': shapes['blocks.0.ff.net.0.proj.weight'][0],
    'text_width': text_width,
    'micro_width': shapes['cond_pooled_proj.weight'][1] - text_width,
    'tied': tied,
  }


MASKGEN = CheckpointFormat(
  MaskGenTransformer,
  'text_embed_proj.weight',
  maskgen_options,
  convert_maskgen,
)
