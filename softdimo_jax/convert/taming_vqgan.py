"""Taming VQGAN checkpoints -> `TamingVQGAN` parameters."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from softdimo_jax.convert import tree
from softdimo_jax.networks.tokenizers.taming_vqgan import TamingVQGAN

# Official index `l` of down.l and up.l is the level in both coders.
_LEVEL = r'(encoder|decoder)\.(down|up)\.(\d+)'
_MIDDLE = r'(encoder|decoder)\.mid\.(block_1|attn_1|block_2)'

RULES = (
  *tree.norm(
    rf'{_LEVEL}\.block\.(\d+)\.(norm1|norm2)', r'\1/\2_\3_block_\4/\5'
  ),
  *tree.conv(
    rf'{_LEVEL}\.block\.(\d+)\.(conv1|conv2|nin_shortcut)',
    r'\1/\2_\3_block_\4/\5',
  ),
  *tree.norm(rf'{_LEVEL}\.attn\.(\d+)\.norm', r'\1/\2_\3_attn_\4/norm'),
  *tree.conv(
    rf'{_LEVEL}\.attn\.(\d+)\.(q|k|v|proj_out)', r'\1/\2_\3_attn_\4/\5'
  ),
  *tree.conv(rf'{_LEVEL}\.(downsample|upsample)\.conv', r'\1/\2_\3_\4_conv'),
  *tree.norm(rf'{_MIDDLE}\.(norm1|norm2|norm)', r'\1/mid_\2/\3'),
  *tree.conv(rf'{_MIDDLE}\.(conv1|conv2|q|k|v|proj_out)', r'\1/mid_\2/\3'),
  *tree.norm(r'(encoder|decoder)\.norm_out', r'\1/norm_out'),
  *tree.conv(r'(encoder|decoder)\.(conv_in|conv_out)', r'\1/\2'),
  *tree.conv(r'(quant_conv|post_quant_conv)', r'\1'),
  tree.Rule(r'quantize\.embedding\.weight', 'codebook'),
)

# Discriminator and LPIPS of the training loss.
IGNORED = (r'loss\..*',)


def convert_taming_vqgan(
  state_dict: Mapping[str, tree.Array], tokenizer: TamingVQGAN
) -> tuple[tree.Params, tree.Report]:
  """Official `VQModel` state dict -> parameters of `tokenizer`.

  Args:
    state_dict: of a Lightning checkpoint, what its key 'state_dict' holds.
    tokenizer: module of the checkpoint's configuration.

  Raises:
    ConversionError: if the two do not fit.
  """
  side, channels = tokenizer.resolution, tokenizer.in_channels
  images = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
  target = tree.parameter_shapes(tokenizer, images)
  return tree.convert(state_dict, RULES, target, ignored=IGNORED)
