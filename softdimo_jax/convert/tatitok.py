"""TA-TiTok checkpoints -> `TATiTok` parameters."""

import math

import jax
import jax.numpy as jnp

from softdimo_jax.convert import tree
from softdimo_jax.convert.block import residual_block_rules
from softdimo_jax.convert.format import CheckpointFormat, Converted, StateDict
from softdimo_jax.convert.shapes import Options, Shapes, heads_of_64, image
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

# Usage frequencies of the codes in training, present in some files.
IGNORED = (r'quantize\.embed_prob',)


def convert_tatitok(state_dict: StateDict, tokenizer: TATiTok) -> Converted:
  """Official `TATiTok` state dict with a codebook -> parameters."""
  text = (1, tokenizer.text_length, tokenizer.text_width)
  target = tree.parameter_shapes(
    tokenizer,
    image(tokenizer.resolution, channels=tokenizer.in_channels),
    jax.ShapeDtypeStruct(text, jnp.float32),
  )
  return tree.convert(state_dict, RULES, target, ignored=IGNORED)


def tatitok_options(shapes: Shapes) -> Options:
  """Options of `TATiTok`."""
  encoder_width, channels, patch, _ = shapes['encoder.patch_embed.weight']
  decoder_width = shapes['decoder.class_embedding'][1]
  codebook_size, embedding_dim = shapes['quantize.embedding.weight']
  patches = shapes['encoder.positional_embedding'][0] - 1
  pixels = shapes['decoder.ffn.0.weight'][0] // channels
  return {
    'in_channels': channels,
    'resolution': patch * math.isqrt(patches),
    'encoder_patch': patch,
    'decoder_patch': math.isqrt(pixels),
    'length': shapes['latent_tokens'][0],
    'encoder_width': encoder_width,
    'encoder_depth': shapes.count(r'encoder\.transformer\.(\d+)\.'),
    'encoder_heads': heads_of_64(encoder_width),
    'decoder_width': decoder_width,
    'decoder_depth': shapes.count(r'decoder\.transformer\.(\d+)\.'),
    'decoder_heads': heads_of_64(decoder_width),
    'codebook_size': codebook_size,
    'embedding_dim': embedding_dim,
    'text_width': shapes['decoder.text_guidance_proj.weight'][1],
    'text_length': shapes['decoder.text_guidance_positional_embedding'][0],
  }


TATITOK = CheckpointFormat(
  TATiTok, 'latent_tokens', tatitok_options, convert_tatitok
)
