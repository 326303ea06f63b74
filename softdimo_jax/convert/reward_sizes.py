"""Shapes of official entries -> options of the rewards beside CLIP."""

import math

from softdimo_jax.convert.linear_head import OFFICIAL_LAYERS
from softdimo_jax.convert.sizes import Options, Shapes
from softdimo_jax.convert.text_sizes import heads_of_64


def image_reward(
  shapes: Shapes,
  *,
  num_heads: int | None = None,
  text_heads: int | None = None,
) -> Options:
  """`BLIPScorer`: the options of its parts.

  Args:
    shapes: of the official entries.
    num_heads: of the image tower.
    text_heads: of the text encoder.
  """
  return {
    'image': _image(shapes, num_heads),
    'text': _text(shapes, text_heads),
    'head_widths': _head_widths(shapes, 'mlp.'),
  }


def aesthetic_head(shapes: Shapes) -> Options:
  """`LinearHead`."""
  return {'widths': _head_widths(shapes, '')}


def _image(shapes: Shapes, num_heads: int | None) -> Options:
  tower = 'blip.visual_encoder'
  width, _, patch, _ = shapes[f'{tower}.patch_embed.proj.weight']
  patches = shapes[f'{tower}.pos_embed'][1] - 1
  return {
    'resolution': patch * math.isqrt(patches),
    'patch': patch,
    'width': width,
    'depth': shapes.count(r'blip\.visual_encoder\.blocks\.(\d+)\.'),
    'num_heads': heads_of_64(width, num_heads),
    'mlp_width': shapes[f'{tower}.blocks.0.mlp.fc1.weight'][0],
  }


def _text(shapes: Shapes, num_heads: int | None) -> Options:
  encoder = 'blip.text_encoder'
  embeddings = f'{encoder}.embeddings'
  vocab_size, width = shapes[f'{embeddings}.word_embeddings.weight']
  mlp = f'{encoder}.encoder.layer.0.intermediate.dense.weight'
  return {
    'vocab_size': vocab_size,
    'length': shapes[f'{embeddings}.position_embeddings.weight'][0],
    'width': width,
    'depth': shapes.count(r'blip\.text_encoder\.encoder\.layer\.(\d+)\.'),
    'num_heads': heads_of_64(width, num_heads),
    'mlp_width': shapes[mlp][0],
  }


def _head_widths(shapes: Shapes, prefix: str) -> tuple[int, ...]:
  return tuple(
    shapes[f'{prefix}layers.{number}.weight'][0] for number in OFFICIAL_LAYERS
  )
