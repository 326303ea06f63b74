"""Shapes of official entries -> options of text-to-image modules and CLIP."""

import math

from softdimo_jax.convert.sizes import Options, Shapes, codes, heads
from softdimo_jax.networks.generators.meissonic import BLOCK_SIDE

# Width of a head of every released TA-TiTok and CLIP, ...
_HEAD_WIDTH = 64
# ... but of the image towers of LAION's ViT-H/14 and ViT-g/14, by their width.
_LAION_HEADS = {1280: 16, 1408: 16}
# The same sizes by other names in the two layouts of CLIP.
_HF_IMAGE = {
  'patches': 'vision_model.embeddings.patch_embedding.weight',
  'positions': 'vision_model.embeddings.position_embedding.weight',
  'layers': r'vision_model\.encoder\.layers\.(\d+)\.',
  'mlp': 'vision_model.encoder.layers.0.mlp.fc1.weight',
}
_OPENCLIP_IMAGE = {
  'patches': 'visual.conv1.weight',
  'positions': 'visual.positional_embedding',
  'layers': r'visual\.transformer\.resblocks\.(\d+)\.',
  'mlp': 'visual.transformer.resblocks.0.mlp.c_fc.weight',
}


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
    'encoder_heads': heads_of_64(encoder_width),
    'decoder_width': decoder_width,
    'decoder_depth': shapes.count(r'decoder\.transformer\.(\d+)\.'),
    'decoder_heads': heads_of_64(decoder_width),
    'codebook_size': codebook_size,
    'embedding_dim': embedding_dim,
    'text_width': shapes['decoder.text_guidance_proj.weight'][1],
    'text_length': shapes['decoder.text_guidance_positional_embedding'][0],
  }


def meissonic(shapes: Shapes) -> Options:
  """`MeissonicTransformer`; the grid is that of the released models."""
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


def diffusers_vq(shapes: Shapes) -> Options:
  """`DiffusersVQ`; 32 groups in its norms, as everywhere."""
  levels = range(shapes.count(r'encoder\.down_blocks\.(\d+)\.'))
  codebook_size, embedding_dim = shapes['quantize.embedding.weight']
  first = 'encoder.down_blocks.{}.resnets.0.conv1.weight'
  return {
    'in_channels': shapes['encoder.conv_in.weight'][1],
    'level_channels': tuple(shapes[first.format(n)][0] for n in levels),
    'num_res_blocks': shapes.count(
      r'encoder\.down_blocks\.0\.resnets\.(\d+)\.'
    ),
    'middle_attention': (
      'encoder.mid_block.attentions.0.to_q.weight' in shapes
    ),
    'latent_channels': shapes['encoder.conv_out.weight'][0],
    'codebook_size': codebook_size,
    'embedding_dim': embedding_dim,
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
    'num_heads': heads_of_64(width, num_heads),
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
    'num_heads': heads_of_64(width, num_heads),
    'mlp_width': shapes['transformer.resblocks.0.mlp.c_fc.weight'][0],
    'projection_width': shapes['text_projection'][1],
    'activation': activation,
  }


def clip(
  shapes: Shapes,
  *,
  num_heads: int | None = None,
  text_heads: int | None = None,
  activation: str | None = None,
) -> Options:
  """`CLIP` of either layout: the options of both towers.

  Args:
    shapes: of the official entries.
    num_heads: of the image tower.
    text_heads: of the text tower.
    activation: of both; else gelu for the widths of ViT-H/14 and ViT-g/14, and
      OpenAI's quick_gelu. LAION's models of OpenAI's sizes need to be told.
  """
  if _OPENCLIP_IMAGE['patches'] in shapes:
    names, text = _OPENCLIP_IMAGE, openclip_text
  else:
    names, text = _HF_IMAGE, clip_text
  width, _, patch, _ = shapes[names['patches']]
  if activation is None:
    activation = 'gelu' if width in _LAION_HEADS else 'quick_gelu'
  prompts = text(shapes, num_heads=text_heads, activation=activation)
  patches = shapes[names['positions']][0] - 1
  return {
    'image': {
      'resolution': patch * math.isqrt(patches),
      'patch': patch,
      'width': width,
      'depth': shapes.count(names['layers']),
      'num_heads': heads_of_64(width, num_heads or _LAION_HEADS.get(width)),
      'mlp_width': shapes[names['mlp']][0],
      'projection_width': prompts['projection_width'],
      'activation': activation,
    },
    'text': prompts,
  }


def heads_of_64(width: int, num_heads: int | None = None) -> int:
  """`num_heads`, or as many as have the width of released models.

  Raises:
    ConversionError: if they do not divide the width.
  """
  return heads(width, num_heads or max(1, width // _HEAD_WIDTH))


def _rope_axes(head_width: int) -> tuple[int, int, int]:
  """Meissonic's shares: 7 / 16 of a head for rows and for columns each."""
  side = 2 * (7 * head_width // 32)
  return head_width - 2 * side, side, side
