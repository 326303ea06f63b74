"""Shapes of official entries -> options of the text-to-image modules."""

import math

from softdimo_jax.convert.sizes import Options, Shapes, codes, heads

# Width of a head of every released CLIP and TA-TiTok.
_HEAD_WIDTH = 64


def maskgen(
  shapes: Shapes, *, num_heads: int = 16, num_classes: int | None = None
) -> Options:
  """`MaskGenTransformer`; a tied table does not tell codes from classes."""
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


def tatitok(shapes: Shapes) -> Options:
  """`TATiTok`."""
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
    'encoder_heads': _heads_of_64(encoder_width),
    'decoder_width': decoder_width,
    'decoder_depth': shapes.count(r'decoder\.transformer\.(\d+)\.'),
    'decoder_heads': _heads_of_64(decoder_width),
    'codebook_size': codebook_size,
    'embedding_dim': embedding_dim,
    'text_width': shapes['decoder.text_guidance_proj.weight'][1],
    'text_length': shapes['decoder.text_guidance_positional_embedding'][0],
  }


def clip_text(
  shapes: Shapes, *, num_heads: int | None = None, activation: str = 'gelu'
) -> Options:
  """`CLIPTextTower` of transformers; released with the activation of ViT-H."""
  vocab_size, width = shapes['text_model.embeddings.token_embedding.weight']
  return {
    'vocab_size': vocab_size,
    'length': shapes['text_model.embeddings.position_embedding.weight'][0],
    'width': width,
    'depth': shapes.count(r'text_model\.encoder\.layers\.(\d+)\.'),
    'num_heads': _heads_of_64(width, num_heads),
    'mlp_width': shapes['text_model.encoder.layers.0.mlp.fc1.weight'][0],
    'projection_width': shapes['text_projection.weight'][0],
    'activation': activation,
  }


def openclip_text(
  shapes: Shapes,
  *,
  num_heads: int | None = None,
  activation: str = 'quick_gelu',
) -> Options:
  """`CLIPTextTower` of open_clip; MaskGen's has OpenAI's activation."""
  vocab_size, width = shapes['token_embedding.weight']
  return {
    'vocab_size': vocab_size,
    'length': shapes['positional_embedding'][0],
    'width': width,
    'depth': shapes.count(r'transformer\.resblocks\.(\d+)\.'),
    'num_heads': _heads_of_64(width, num_heads),
    'mlp_width': shapes['transformer.resblocks.0.mlp.c_fc.weight'][0],
    'projection_width': shapes['text_projection'][1],
    'activation': activation,
  }


def _heads_of_64(width: int, num_heads: int | None = None) -> int:
  return heads(width, num_heads or max(1, width // _HEAD_WIDTH))
