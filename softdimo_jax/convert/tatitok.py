"""TA-TiTok checkpoints -> `TATiTok` parameters."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from softdimo_jax.convert import tree
from softdimo_jax.convert.block import residual_block_rules
from softdimo_jax.networks.tokenizers.tatitok import TATiTok

_CODER = '(encoder|decoder)'

RULES = (
  tree.Rule('latent_tokens', 'encoder/latent_tokens'),
  tree.Rule(rf'{_CODER}\.class_embedding', r'\1/class_emb'),
  tree.Rule(rf'{_CODER}\.positional_embedding', r'\1/pos_emb'),
  tree.Rule(
    rf'{_CODER}\.latent_token_positional_embedding', r'\1/latent_pos_emb'
  ),
  tree.Rule(
    r'decoder\.text_guidance_positional_embedding', 'decoder/text_pos_emb'
  ),
  tree.Rule(
    r'decoder\.mask_token', 'decoder/mask_token', lambda array: array[0]
  ),
  *tree.norm(rf'{_CODER}\.ln_pre', r'\1/norm_in'),
  *residual_block_rules(
    rf'{_CODER}\.transformer\.(?P<layer>\d+)', r'\1/layers'
  ),
  *tree.norm(rf'{_CODER}\.ln_post', r'\1/norm_out'),
  *tree.conv(r'encoder\.patch_embed', 'encoder/patch_in'),
  *tree.pointwise(r'encoder\.conv_out', 'encoder/out'),
  *tree.linear(r'decoder\.decoder_embed', 'decoder/latent_in'),
  *tree.linear(r'decoder\.text_guidance_proj', 'decoder/text_in'),
  *tree.pointwise(r'decoder\.ffn\.0', 'decoder/patch_out'),
  *tree.conv(r'decoder\.conv_out', 'decoder/conv_out'),
  tree.Rule(r'quantize\.embedding\.weight', 'codebook'),
)

# How often codes were used in training; some files hold it.
IGNORED = (r'quantize\.embed_prob',)


def convert_tatitok(
  state_dict: Mapping[str, tree.Array], tokenizer: TATiTok
) -> tuple[tree.Params, tree.Report]:
  """Official `TATiTok` state dict, with a codebook -> parameters.

  Args:
    state_dict: as released.
    tokenizer: module of the checkpoint's configuration.

  Raises:
    ConversionError: if the two do not fit.
  """
  side, channels = tokenizer.resolution, tokenizer.in_channels
  text = (1, tokenizer.text_length, tokenizer.text_width)
  target = tree.parameter_shapes(
    tokenizer,
    jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32),
    jax.ShapeDtypeStruct(text, jnp.float32),
  )
  return tree.convert(state_dict, RULES, target, ignored=IGNORED)
