"""MaskBit's tokenizer checkpoints -> `MaskBitTokenizer` parameters.

Serves the lookup-free tokenizers, VQGAN+ and the MaskGIT tokenizer that
MaskBit published in torch.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from softdimo_jax.convert import tree
from softdimo_jax.networks.tokenizers.maskbit import MaskBitTokenizer

# Constants of lookup-free quantisation, which the module computes.
IGNORED = (r'quantize\.bits_to_indices', r'quantize\.codebook')


def maskbit_tokenizer_rules(
  num_levels: int, *, legacy: bool
) -> tuple[tree.Rule, ...]:
  """Rules of `ConvVQModel`.

  Args:
    num_levels: resolutions of the coders.
    legacy: `ConvDecoderLegacy` numbers decoder.up by level; the newer decoder
      numbers it in the order of execution, lowest resolution first.
  """
  parts = [(r'(encoder|decoder)\.mid', r'\1/mid')]
  for index in range(num_levels):
    level = index if legacy else num_levels - 1 - index
    parts.append((rf'(encoder)\.down\.{index}', rf'\1/down_{index}'))
    parts.append((rf'(decoder)\.up\.{index}', rf'\1/up_{level}'))
  return (
    *tree.norm(r'(encoder|decoder)\.norm_out', r'\1/norm_out'),
    *tree.conv(r'(encoder|decoder)\.(conv_in|conv_out)', r'\1/\2'),
    tree.Rule(r'quantize\.embedding\.weight', 'codebook'),
    *(rule for part in parts for rule in _level_rules(*part)),
  )


def _level_rules(name: str, path: str) -> tuple[tree.Rule, ...]:
  block, target = rf'{name}\.res_blocks\.(\d+)', rf'{path}_block_\2'
  return (
    *tree.norm(rf'{block}\.(norm1|norm2)', rf'{target}/\3'),
    *tree.conv(rf'{block}\.(conv1|conv2|nin_shortcut)', rf'{target}/\3'),
    *tree.conv(rf'{name}\.down_conv', rf'{path}_downsample_conv'),
    *tree.conv(rf'{name}\.upsample_conv', rf'{path}_upsample_conv'),
  )


def convert_maskbit_tokenizer(
  state_dict: Mapping[str, tree.Array], tokenizer: MaskBitTokenizer
) -> tuple[tree.Params, tree.Report]:
  """Official `ConvVQModel` state dict -> parameters of `tokenizer`.

  The order of the decoder's levels is read off the names: the level of
  highest resolution, alone, has no upsampling.

  Args:
    state_dict: as released, a bare state dict.
    tokenizer: module of the checkpoint's configuration.

  Raises:
    ConversionError: if the two do not fit.
  """
  num_levels = len(tokenizer.channel_multipliers)
  legacy = 'decoder.up.0.upsample_conv.weight' not in state_dict
  side = 2**num_levels
  images = jax.ShapeDtypeStruct(
    (1, side, side, tokenizer.in_channels), jnp.float32
  )
  return tree.convert(
    state_dict,
    maskbit_tokenizer_rules(num_levels, legacy=legacy),
    tree.parameter_shapes(tokenizer, images),
    ignored=IGNORED,
  )
