"""Shapes of official entries -> constructor options of our modules.

One function a family. Its keyword arguments are what no shape tells; their
defaults are those of the released checkpoints.
"""

import re
from collections.abc import Mapping
from typing import Any

from softdimo_jax.convert.tree import Array, ConversionError

Options = dict[str, Any]

# Only the ratio to the resolution of attention matters.
_TAMING_RESOLUTION = 256
# torchvision's Inception has so many, FID's has 1008.
_IMAGENET_CLASSES = 1000
# Google's, where pooling leaves no kernel to read it off.
_GOOGLE_KERNEL = 4


class Shapes(dict[str, tuple[int, ...]]):
  """Shape of every official entry."""

  @classmethod
  def of(cls, state_dict: Mapping[str, Array]) -> 'Shapes':
    """Shapes of arrays or of a listing."""
    return cls({name: tuple(x.shape) for name, x in state_dict.items()})

  def __missing__(self, name: str) -> tuple[int, ...]:
    raise ConversionError(f'there is no official entry {name}')

  def count(self, pattern: str) -> int:
    """One past the largest number in the names that begin like `pattern`."""
    matches = (re.match(pattern, name) for name in self)
    return max((int(match[1]) + 1 for match in matches if match), default=0)


def maskgit(
  shapes: Shapes, *, num_heads: int = 16, num_classes: int = 1000
) -> Options:
  """`MaskGitTransformer`; its table counts codes and classes together."""
  rows, width = shapes['tok_emb.weight']
  return {
    'vocab_size': codes(rows, num_classes, others=2),
    'num_classes': num_classes,
    'length': shapes['bias'][0] - 1,
    'width': width,
    'depth': _torch_depth(shapes),
    'num_heads': heads(width, num_heads),
    'mlp_width': shapes['transformer.layers.0.1.fn.net.0.weight'][0],
  }


def maskbit(shapes: Shapes, *, num_heads: int = 16) -> Options:
  """`MaskBitTransformer`."""
  entry = 'input_proj' if 'input_proj.weight' in shapes else 'token_emb'
  num_bits = shapes[f'{entry}.weight'][1]
  return {
    'num_bits': num_bits,
    'num_groups': _groups(shapes, num_bits),
    **_maskbit_sizes(shapes, num_heads),
  }


def maskbit_table(shapes: Shapes, *, num_heads: int = 16) -> Options:
  """`MaskBitTableTransformer`."""
  num_groups = shapes.count(r'tok_emb_list\.(\d+)')
  codes = shapes['tok_emb_list.0.weight'][0] - 1
  return {
    'num_bits': num_groups * (codes.bit_length() - 1),
    'num_groups': num_groups,
    **_maskbit_sizes(shapes, num_heads),
  }


def google_maskgit(shapes: Shapes, *, num_classes: int = 1000) -> Options:
  """`GoogleMaskGitTransformer`; its table counts codes and classes together."""
  rows, width = shapes['Embed_0/word_embeddings/embedding']
  first = 'TransformerLayer_0'
  query = f'{first}/Attention_0/self_attention/query/bias'
  mlp = f'{first}/Mlp_0/intermediate_output/kernel'
  return {
    'vocab_size': codes(rows, num_classes, others=1),
    'num_classes': num_classes,
    'length': shapes['Embed_0/position_embeddings/embedding'][0] - 1,
    'width': width,
    'depth': shapes.count(r'TransformerLayer_(\d+)/'),
    'num_heads': shapes[query][0],
    'mlp_width': shapes[mlp][1],
  }


def taming_vqgan(shapes: Shapes) -> Options:
  """`TamingVQGAN`."""
  hidden, in_channels = shapes['encoder.conv_in.weight'][:2]
  levels = range(shapes.count(r'encoder\.down\.(\d+)\.'))
  codebook_size, embedding_dim = shapes['quantize.embedding.weight']
  return {
    'in_channels': in_channels,
    'resolution': _TAMING_RESOLUTION,
    'hidden_channels': hidden,
    'channel_multipliers': tuple(
      shapes[f'encoder.down.{level}.block.0.conv1.weight'][0] // hidden
      for level in levels
    ),
    'num_res_blocks': shapes.count(r'encoder\.down\.0\.block\.(\d+)\.'),
    'attention_resolutions': tuple(
      _TAMING_RESOLUTION // 2**level
      for level in levels
      if f'encoder.down.{level}.attn.0.q.weight' in shapes
    ),
    'latent_channels': shapes['encoder.conv_out.weight'][0],
    'codebook_size': codebook_size,
    'embedding_dim': embedding_dim,
  }


def maskbit_tokenizer(shapes: Shapes, *, num_groups: int = 2) -> Options:
  """`MaskBitTokenizer` of torch; bits have `num_groups`, a codebook has one."""
  hidden, in_channels = shapes['encoder.conv_in.weight'][:2]
  levels = range(shapes.count(r'encoder\.down\.(\d+)\.'))
  depth = shapes.count(r'encoder\.mid\.res_blocks\.(\d+)\.')
  decoder = shapes.count(r'decoder\.mid\.res_blocks\.(\d+)\.')
  return {
    'in_channels': in_channels,
    'hidden_channels': hidden,
    'channel_multipliers': tuple(
      shapes[f'encoder.down.{level}.res_blocks.0.conv1.weight'][0] // hidden
      for level in levels
    ),
    'num_res_blocks': depth,
    'num_res_blocks_decoder': None if decoder == depth else decoder,
    'conv_downsample': 'encoder.down.0.down_conv.weight' in shapes,
    **_codebook(shapes, 'quantize.embedding.weight', num_groups),
  }


def google_tokenizer(shapes: Shapes) -> Options:
  """`MaskBitTokenizer` of Google, which numbers layers as they execute."""
  in_channels, hidden = shapes['encoder/Conv_0/kernel'][-2:]
  # Between the first and the last convolution there is one a level but one.
  levels = shapes.count(r'decoder/Conv_(\d+)/') - 1
  depth = shapes.count(r'encoder/ResBlock_(\d+)/') // (levels + 1)
  codebook_size, embedding_dim = shapes['quantizer/codebook']
  conv_downsample = shapes.count(r'encoder/Conv_(\d+)/') > 2
  return {
    'in_channels': in_channels,
    'hidden_channels': hidden,
    'channel_multipliers': tuple(
      shapes[f'encoder/ResBlock_{level * depth}/Conv_0/kernel'][-1] // hidden
      for level in range(levels)
    ),
    'num_res_blocks': depth,
    'conv_downsample': conv_downsample,
    'downsample_kernel': (
      shapes['encoder/Conv_1/kernel'][0] if conv_downsample else _GOOGLE_KERNEL
    ),
    'embedding_dim': embedding_dim,
    'codebook_size': codebook_size,
  }


def inception(shapes: Shapes) -> Options:
  """`Inception`, whose layers are in proportion to the first."""
  num_classes = shapes['fc.weight'][0]
  if num_classes == _IMAGENET_CLASSES:
    raise ConversionError(
      f"{num_classes} classes are those of torchvision's Inception, which "
      'pools otherwise than that of FID'
    )
  return {
    'width': shapes['Conv2d_1a_3x3.conv.weight'][0],
    'num_classes': num_classes,
  }


def _maskbit_sizes(shapes: Shapes, num_heads: int) -> Options:
  rows, width = shapes['class_emb.weight']
  return {
    'num_classes': rows - 1,
    'length': shapes['pos_emb'][-2] - 1,
    'width': width,
    'depth': _torch_depth(shapes),
    'num_heads': heads(width, num_heads),
    'mlp_width': shapes['transformer.layers.0.1.net.0.weight'][0],
    'pre_norm': 'norm_after_transformer.weight' in shapes,
  }


def _torch_depth(shapes: Shapes) -> int:
  return shapes.count(r'transformer\.layers\.(\d+)\.')


def heads(width: int, num_heads: int) -> int:
  """`num_heads`, if they divide the width.

  Raises:
    ConversionError: if not.
  """
  if width % num_heads:
    raise ConversionError(
      f'width {width} does not divide into {num_heads} heads; give --num_heads'
    )
  return num_heads


def codes(rows: int, num_classes: int, *, others: int) -> int:
  """Codes in a table of codes, classes and `others` more rows.

  Raises:
    ConversionError: if there is no room for them.
  """
  count = rows - num_classes - others
  if count < 1:
    raise ConversionError(
      f'a table of {rows} rows has no room for {num_classes} classes; give '
      '--num_classes'
    )
  return count


def _groups(shapes: Shapes, num_bits: int) -> int:
  """Groups of bits; the buffer has one number a bit of a group."""
  if 'bits_to_indices' in shapes:
    return num_bits // shapes['bits_to_indices'][0]
  logits = shapes['prediction_layer.weight'][0]
  for groups in range(1, num_bits + 1):
    if num_bits % groups == 0 and groups * 2 ** (num_bits // groups) == logits:
      return groups
  raise ConversionError(
    f'{logits} logits are not those of {num_bits} bits in equal groups'
  )


def _codebook(shapes: Shapes, codebook: str, num_groups: int) -> Options:
  """Options of the quantizer: a codebook, else bits."""
  if codebook in shapes:
    rows, width = shapes[codebook]
    return {'embedding_dim': width, 'codebook_size': rows, 'num_groups': 1}
  num_bits = shapes['encoder.conv_out.weight'][0]
  if num_bits % num_groups:
    raise ConversionError(
      f'{num_bits} bits do not divide into {num_groups} groups; give '
      '--num_groups'
    )
  return {
    'embedding_dim': num_bits,
    'codebook_size': None,
    'num_groups': num_groups,
  }
