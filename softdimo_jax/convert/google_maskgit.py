"""Google's MaskGIT checkpoints -> our parameters.

The official msgpack files hold a Flax tree. Names here are its paths joined by
'/', with or without 'params/' in front. Kernels keep their axes, but for the
heads: ours are flat.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from softdimo_jax.convert import tree
from softdimo_jax.networks.generators.google_maskgit import (
  GoogleMaskGitTransformer,
)
from softdimo_jax.networks.tokenizers.maskbit import MaskBitTokenizer

_ROOT = '(?:params/)?'
_LAYER = rf'{_ROOT}TransformerLayer_(?P<layer>\d+)'
_ATTENTION = rf'{_LAYER}/Attention_0/self_attention'


def _merge_last(array: tree.Array) -> tree.Array:
  """Joins the two axes of heads at the end: [.., heads, hd] -> [.., D]."""
  return array.reshape(*array.shape[:-2], -1)


def _merge_first(kernel: tree.Array) -> tree.Array:
  """Joins the two axes of heads in front: [heads, hd, D] -> [D, D]."""
  return kernel.reshape(-1, kernel.shape[-1])


def _same(name: str, path: str, *leaves: str) -> tuple[tree.Rule, ...]:
  return tuple(tree.Rule(f'{name}/{leaf}', f'{path}/{leaf}') for leaf in leaves)


TRANSFORMER_RULES = (
  tree.Rule(f'{_ROOT}Embed_0/word_embeddings/embedding', 'word_emb'),
  tree.Rule(f'{_ROOT}Embed_0/position_embeddings/embedding', 'pos_emb'),
  *_same(f'{_ROOT}Embed_0/embeddings_ln', 'first_norm', 'scale', 'bias'),
  *(
    tree.Rule(
      f'{_ATTENTION}/{part}/{leaf}',
      f'layers/attention/{part}/{leaf}',
      _merge_last,
    )
    for part in ('query', 'key', 'value')
    for leaf in ('kernel', 'bias')
  ),
  tree.Rule(
    f'{_ATTENTION}/out/kernel', 'layers/attention/out/kernel', _merge_first
  ),
  *_same(f'{_ATTENTION}/out', 'layers/attention/out', 'bias'),
  *_same(
    f'{_LAYER}/Attention_0/attention_output_ln',
    'layers/attention_norm',
    'scale',
    'bias',
  ),
  *_same(
    f'{_LAYER}/Mlp_0/intermediate_output', 'layers/mlp_in', 'kernel', 'bias'
  ),
  *_same(f'{_LAYER}/Mlp_0/layer_output', 'layers/mlp_out', 'kernel', 'bias'),
  *_same(f'{_LAYER}/Mlp_0/layer_output_ln', 'layers/mlp_norm', 'scale', 'bias'),
  *_same(f'{_ROOT}MlmLayer_0/mlm_dense', 'last_dense', 'kernel', 'bias'),
  *_same(f'{_ROOT}MlmLayer_0/mlm_ln', 'last_norm', 'scale', 'bias'),
  tree.Rule(f'{_ROOT}MlmLayer_0/mlm_bias/bias', 'logit_bias'),
)


def convert_google_maskgit(
  state_dict: Mapping[str, tree.Array], generator: GoogleMaskGitTransformer
) -> tuple[tree.Params, tree.Report]:
  """Official `Transformer` tree -> parameters of `generator`.

  Args:
    state_dict: `flax.serialization.msgpack_restore(file)['params']`, flat.
    generator: module of the checkpoint's configuration.

  Raises:
    ConversionError: if the two do not fit.
  """
  tokens = jax.ShapeDtypeStruct((1, generator.length, 1), jnp.int32)
  labels = jax.ShapeDtypeStruct((1,), jnp.int32)
  target = tree.parameter_shapes(generator, tokens, labels)
  return tree.convert(state_dict, TRANSFORMER_RULES, target)


def google_tokenizer_rules(
  tokenizer: MaskBitTokenizer,
) -> tuple[tree.Rule, ...]:
  """Rules of `VQVAE`, whose modules are numbered in the order of execution."""
  levels = range(len(tokenizer.channel_multipliers))
  depth = tokenizer.num_res_blocks
  blocks = lambda stage: [f'{stage}_block_{b}' for b in range(depth)]
  down = [name for level in levels for name in blocks(f'down_{level}')]
  up = [name for level in levels[::-1] for name in blocks(f'up_{level}')]
  downsample = [f'down_{level}_downsample_conv' for level in levels[:-1]]
  upsample = [f'up_{level}_upsample_conv' for level in levels[:0:-1]]
  if not tokenizer.conv_downsample:
    downsample = []
  return (
    *_coder_rules('encoder', [*down, *blocks('mid')], downsample),
    *_coder_rules('decoder', [*blocks('mid'), *up], upsample),
    tree.Rule(f'{_ROOT}quantizer/codebook', 'codebook'),
  )


def _coder_rules(
  coder: str, blocks: list[str], resampling: list[str]
) -> tuple[tree.Rule, ...]:
  root = f'{_ROOT}{coder}'
  convs = ['conv_in', *resampling, 'conv_out']
  parts = {
    'GroupNorm_0': 'norm1',
    'GroupNorm_1': 'norm2',
    'Conv_0': 'conv1',
    'Conv_1': 'conv2',
    'Conv_2': 'nin_shortcut',
  }
  names = {f'Conv_{i}': name for i, name in enumerate(convs)}
  names['GroupNorm_0'] = 'norm_out'
  for index, block in enumerate(blocks):
    for part, name in parts.items():
      names[f'ResBlock_{index}/{part}'] = f'{block}/{name}'
  return tuple(
    tree.Rule(rf'{root}/{official}/(kernel|scale|bias)', rf'{coder}/{ours}/\1')
    for official, ours in names.items()
  )


def convert_google_tokenizer(
  state_dict: Mapping[str, tree.Array], tokenizer: MaskBitTokenizer
) -> tuple[tree.Params, tree.Report]:
  """Official `VQVAE` tree -> parameters of `tokenizer`.

  Args:
    state_dict: `flax.serialization.msgpack_restore(file)['params']`, flat.
    tokenizer: with a codebook; the released ones pool to downsample.

  Raises:
    ConversionError: if the two do not fit.
  """
  side = 2 ** len(tokenizer.channel_multipliers)
  images = jax.ShapeDtypeStruct(
    (1, side, side, tokenizer.in_channels), jnp.float32
  )
  target = tree.parameter_shapes(tokenizer, images)
  return tree.convert(state_dict, google_tokenizer_rules(tokenizer), target)
