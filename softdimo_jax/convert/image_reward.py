"""ImageReward's checkpoint -> `BLIPScorer` parameters."""

import math

from softdimo_jax.convert import tree
from softdimo_jax.convert.block import stacked_attention_rules
from softdimo_jax.convert.clip import patch_kernel
from softdimo_jax.convert.format import CheckpointFormat, Converted, StateDict
from softdimo_jax.convert.linear_head import head_rules, head_widths
from softdimo_jax.convert.shapes import (
  Options,
  Shapes,
  heads_of_64,
  image,
  prompt,
)
from softdimo_jax.networks.rewards.blip import (
  BLIPImageTower,
  BLIPScorer,
  BLIPTextEncoder,
)

_PARTS = ('query', 'key', 'value')
_IMAGE = r'blip\.visual_encoder'
_IMAGE_LAYER = rf'{_IMAGE}\.blocks\.(?P<layer>\d+)'
_TEXT = r'blip\.text_encoder'
_TEXT_LAYER = rf'{_TEXT}\.encoder\.layer\.(?P<layer>\d+)'


def _only_row(array: tree.Array) -> tree.Array:
  """[1, ...] -> [...]; the official code repeats it over the batch."""
  if array.shape[0] != 1:
    raise ValueError('expected one row')
  return array[0]


def _image_rules() -> tuple[tree.Rule, ...]:
  return (
    tree.Rule(
      rf'{_IMAGE}\.cls_token', 'class_emb', lambda x: _only_row(_only_row(x))
    ),
    tree.Rule(rf'{_IMAGE}\.pos_embed', 'pos_emb', _only_row),
    tree.Rule(
      rf'{_IMAGE}\.patch_embed\.proj\.weight', 'patch_kernel', patch_kernel
    ),
    tree.Rule(rf'{_IMAGE}\.patch_embed\.proj\.bias', 'patch_bias'),
    *tree.norm(rf'{_IMAGE_LAYER}\.norm1', 'layers/attention_norm'),
    *stacked_attention_rules(
      rf'{_IMAGE_LAYER}\.attn\.qkv\.',
      rf'{_IMAGE_LAYER}\.attn\.proj',
      'layers/attention',
    ),
    *tree.norm(rf'{_IMAGE_LAYER}\.norm2', 'layers/mlp_norm'),
    *tree.linear(rf'{_IMAGE_LAYER}\.mlp\.fc1', 'layers/mlp_in'),
    *tree.linear(rf'{_IMAGE_LAYER}\.mlp\.fc2', 'layers/mlp_out'),
    *tree.norm(rf'{_IMAGE}\.norm', 'final_norm'),
  )


def _text_rules() -> tuple[tree.Rule, ...]:
  embeddings = rf'{_TEXT}\.embeddings'
  return (
    tree.Rule(rf'{embeddings}\.word_embeddings\.weight', 'token_emb'),
    tree.Rule(rf'{embeddings}\.position_embeddings\.weight', 'pos_emb'),
    *tree.norm(rf'{embeddings}\.LayerNorm', 'emb_norm'),
    *_attention_rules('attention', 'attention', 'attention_norm'),
    *_attention_rules('crossattention', 'cross_attention', 'cross_norm'),
    *tree.linear(rf'{_TEXT_LAYER}\.intermediate\.dense', 'layers/mlp_in'),
    *tree.linear(rf'{_TEXT_LAYER}\.output\.dense', 'layers/mlp_out'),
    *tree.norm(rf'{_TEXT_LAYER}\.output\.LayerNorm', 'layers/mlp_norm'),
  )


def _attention_rules(
  official: str, ours: str, norm: str
) -> tuple[tree.Rule, ...]:
  """Rules of BERT's attention, whose output layer contains the norm."""
  name = rf'{_TEXT_LAYER}\.{official}'
  return (
    *(
      rule
      for part in _PARTS
      for rule in tree.linear(rf'{name}\.self\.{part}', f'layers/{ours}/{part}')
    ),
    *tree.linear(rf'{name}\.output\.dense', f'layers/{ours}/out'),
    *tree.norm(rf'{name}\.output\.LayerNorm', f'layers/{norm}'),
  )


RULES = (
  *tree.under('image', _image_rules()),
  *tree.under('text', _text_rules()),
  *tree.under('head', head_rules(r'mlp\.')),
)
# BLIP's own similarity, which the score does not use.
IGNORED = (r'blip\.(?:vision|text)_proj\.(?:weight|bias)',)


def convert_image_reward(
  state_dict: StateDict, scorer: BLIPScorer
) -> Converted:
  """Official ImageReward state dict (ImageReward.pt) -> parameters.

  Unlike the official loader, this one does not skip missing entries.
  """
  target = tree.parameter_shapes(
    scorer, image(scorer.image.resolution), prompt(scorer.text.length)
  )
  return tree.convert(state_dict, RULES, target, ignored=IGNORED)


def image_reward_options(
  shapes: Shapes,
  *,
  num_heads: int | None = None,
  text_heads: int | None = None,
) -> Options:
  """Options of `BLIPScorer`: those of its parts.

  Args:
    shapes: shapes of the official entries.
    num_heads: heads of the image tower.
    text_heads: heads of the text encoder.
  """
  return {
    'image': _image_options(shapes, num_heads),
    'text': _text_options(shapes, text_heads),
    'head_widths': head_widths(shapes, 'mlp.'),
  }


def _image_options(shapes: Shapes, num_heads: int | None) -> Options:
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


def _text_options(shapes: Shapes, num_heads: int | None) -> Options:
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


def _scorer(
  image: Options, text: Options, head_widths: tuple[int, ...]
) -> BLIPScorer:
  """`BLIPScorer`, given JSON-serialisable options of its parts."""
  return BLIPScorer(
    BLIPImageTower(**image), BLIPTextEncoder(**text), head_widths
  )


IMAGE_REWARD = CheckpointFormat(
  _scorer,
  'blip.visual_encoder.cls_token',
  image_reward_options,
  convert_image_reward,
)
