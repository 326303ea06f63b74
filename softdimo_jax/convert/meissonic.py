"""Meissonic checkpoints -> `MeissonicTransformer` parameters."""

from collections.abc import Mapping

import numpy as np

from softdimo_jax.convert import tree
from softdimo_jax.convert.block import joint_block_rules, modulation_rules
from softdimo_jax.convert.format import CheckpointFormat, Converted, StateDict
from softdimo_jax.convert.shapes import Options, Shapes, generator_params
from softdimo_jax.networks.generators.meissonic import (
  BLOCK_SIDE,
  MeissonicTransformer,
)

_JOINT = r'transformer_blocks\.(?P<layer>\d+)'
_SINGLE = r'single_transformer_blocks\.(?P<layer>\d+)'

_JOINT_NORMS = {
  'norm_q': 'image/query_norm',
  'norm_k': 'image/key_norm',
  'norm_added_q': 'text/query_norm',
  'norm_added_k': 'text/key_norm',
}
_SINGLE_NORMS = {'norm_q': 'query_norm', 'norm_k': 'key_norm'}
_SINGLE_LAYERS = {
  r'attn\.to_q': 'query',
  r'attn\.to_k': 'key',
  r'attn\.to_v': 'value',
  'proj_mlp': 'mlp_in',
  'proj_out': 'out',
}
# The remaining norms, layers with and without bias, and 1x1 convolutions.
_NORMS = {
  r'embed\.layer_norm': 'emb_norm',
  r'down_block\.downsample\.norm': 'down_norm',
  'project_to_hidden_norm': 'in_norm',
  'project_from_hidden_norm': 'out_norm',
  r'up_block\.upsample\.norm': 'up_norm',
  'encoder_proj_layer_norm': 'text_norm',
  r'mlm_layer\.layer_norm': 'head/norm',
}
_LAYERS = {
  'context_embedder': 'text_in',
  r'time_text_embed\.timestep_embedder\.linear_1': 'time_in/first',
  r'time_text_embed\.timestep_embedder\.linear_2': 'time_in/second',
  r'time_text_embed\.text_embedder\.linear_1': 'pooled_in/first',
  r'time_text_embed\.text_embedder\.linear_2': 'pooled_in/second',
}
_BARE = {
  r'cond_embed\.linear_1': 'micro_in/first',
  r'cond_embed\.linear_2': 'micro_in/second',
  'project_to_hidden': 'in_dense',
  'project_from_hidden': 'out_dense',
}
_POINTWISE = {
  r'embed\.conv': 'emb_dense',
  r'mlm_layer\.conv1': 'head/first',
  r'mlm_layer\.conv2': 'head/second',
}


def meissonic_rules(vocab_size: int) -> tuple[tree.Rule, ...]:
  """Rules of `Transformer2DModel` with a codebook of `vocab_size`."""
  return (
    tree.Rule(r'embed\.embeddings\.weight', 'tok_emb', _mask_at(vocab_size)),
    *_weights(_NORMS, 'scale', tree.identity),
    *_weights(_BARE, 'kernel', tree.linear_kernel),
    *_weights(_POINTWISE, 'kernel', tree.pointwise_kernel),
    *(rule for pair in _LAYERS.items() for rule in tree.linear(*pair)),
    tree.Rule(
      r'down_block\.downsample\.conv\.weight', 'down/kernel', _merging_kernel
    ),
    tree.Rule(
      r'up_block\.upsample\.conv\.weight', 'up/kernel', _parting_kernel
    ),
    *joint_block_rules(_JOINT, 'joint_layers'),
    *_block_norms(_JOINT, 'joint_layers', _JOINT_NORMS),
    *modulation_rules(rf'{_SINGLE}\.norm', 'single_layers/modulation'),
    *_block_norms(_SINGLE, 'single_layers', _SINGLE_NORMS),
    *(
      rule
      for official, ours in _SINGLE_LAYERS.items()
      for rule in tree.linear(
        rf'{_SINGLE}\.{official}', f'single_layers/{ours}'
      )
    ),
  )


def convert_meissonic(
  state_dict: StateDict, generator: MeissonicTransformer
) -> Converted:
  """Official `Transformer2DModel` state dict -> parameters of `generator`.

  The mask's row is last in the official table; here it follows the codes, and
  the unused rows are last.
  """
  target = generator_params(generator)
  return tree.convert(state_dict, meissonic_rules(generator.vocab_size), target)


def _weights(
  names: Mapping[str, str], leaf: str, transform: tree.Transform
) -> tuple[tree.Rule, ...]:
  """Rules of modules whose only parameter is a weight."""
  return tuple(
    tree.Rule(rf'{official}\.weight', f'{ours}/{leaf}', transform)
    for official, ours in names.items()
  )


def _block_norms(
  block: str, path: str, names: Mapping[str, str]
) -> tuple[tree.Rule, ...]:
  """Rules of the query and key norms."""
  whole = {
    rf'{block}\.attn\.{official}': f'{path}/{ours}'
    for official, ours in names.items()
  }
  return _weights(whole, 'scale', tree.identity)


def _mask_at(row: int) -> tree.Transform:
  """Moves the last row of a table to `row`."""

  def move(table: tree.Array) -> tree.Array:
    last = table.shape[0] - 1
    return table[np.r_[:row, last, row:last]]

  return move


def _merging_kernel(weight: tree.Array) -> tree.Array:
  """torch Conv2d [O, I, 2, 2] with stride 2 -> Dense kernel [4 I, O]."""
  return tree.conv_kernel(weight).reshape(-1, weight.shape[0])


def _parting_kernel(weight: tree.Array) -> tree.Array:
  """torch ConvTranspose2d [I, O, 2, 2] with stride 2 -> kernel [I, 4 O]."""
  return weight.transpose(0, 2, 3, 1).reshape(weight.shape[0], -1)


def meissonic_options(shapes: Shapes) -> Options:
  """Options of `MeissonicTransformer`, with the released models' grid."""
  rows, width = shapes['embed.embeddings.weight']
  vocab_size = shapes['mlm_layer.conv2.weight'][0]
  head_width = shapes['transformer_blocks.0.attn.norm_q.weight'][0]
  downsample = 'down_block.downsample.conv.weight' in shapes
  side = BLOCK_SIDE * (2 if downsample else 1)
  return {
    'vocab_size': vocab_size,
    'spare_rows': rows - vocab_size - 1,
    'grid': (side, side),
    'downsample': downsample,
    'width': width,
    'joint_depth': shapes.count(r'transformer_blocks\.(\d+)\.'),
    'single_depth': shapes.count(r'single_transformer_blocks\.(\d+)\.'),
    'num_heads': width // head_width,
    'mlp_width': shapes['transformer_blocks.0.ff.net.0.proj.weight'][0],
    'rope_axes': _rope_axes(head_width),
    'text_width': shapes['context_embedder.weight'][1],
  }


def _rope_axes(head_width: int) -> tuple[int, int, int]:
  """Channels for time, row and column; the last two have 7 / 16 of a head."""
  side = 2 * (7 * head_width // 32)
  return head_width - 2 * side, side, side


MEISSONIC = CheckpointFormat(
  MeissonicTransformer,
  'cond_embed.linear_1.weight',
  meissonic_options,
  convert_meissonic,
)
