"""Whole CLIP models -> `CLIP` parameters: transformers', open_clip's, HPSv2's.

The text half uses the rules of `clip_text`, which cover both layouts.
"""

import math

from softdimo_jax.convert import clip_config, clip_text, tree
from softdimo_jax.convert.block import (
  encoder_layer_rules,
  residual_block_rules,
)
from softdimo_jax.convert.format import CheckpointFormat, Converted, StateDict
from softdimo_jax.convert.shapes import (
  Options,
  Shapes,
  heads_of_64,
  image,
  prompt,
)
from softdimo_jax.networks.rewards.clip import CLIP, CLIPImageTower
from softdimo_jax.networks.text.clip import CLIPTextTower

# Width -> heads of the image towers of LAION's ViT-H/14, g/14 and bigG/14;
# other towers have heads of width 64.
_LAION_HEADS = {1280: 16, 1408: 16, 1664: 16}
# Entries that determine the sizes, in the two layouts.
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

_HF_EMBEDDINGS = r'vision_model\.embeddings'
_HF_LAYER = r'vision_model\.encoder\.layers\.(?P<layer>\d+)'
_OC_LAYER = r'visual\.transformer\.resblocks\.(?P<layer>\d+)'


def patch_kernel(weight: tree.Array) -> tree.Array:
  """torch Conv2d [D, 3, p, p] -> kernel of flat patches [p p 3, D]."""
  kernel = tree.conv_kernel(weight)
  return kernel.reshape(-1, kernel.shape[-1])


HF_IMAGE_RULES = (
  tree.Rule(rf'{_HF_EMBEDDINGS}\.class_embedding', 'class_emb'),
  tree.Rule(rf'{_HF_EMBEDDINGS}\.position_embedding\.weight', 'pos_emb'),
  tree.Rule(
    rf'{_HF_EMBEDDINGS}\.patch_embedding\.weight', 'patch_kernel', patch_kernel
  ),
  # The official name is misspelt.
  *tree.norm(r'vision_model\.pre_layrnorm', 'initial_norm'),
  *encoder_layer_rules(_HF_LAYER, 'layers'),
  *tree.norm(r'vision_model\.post_layernorm', 'final_norm'),
  tree.Rule(r'visual_projection\.weight', 'projection', tree.linear_kernel),
)
OPENCLIP_IMAGE_RULES = (
  tree.Rule(r'visual\.class_embedding', 'class_emb'),
  tree.Rule(r'visual\.positional_embedding', 'pos_emb'),
  tree.Rule(r'visual\.conv1\.weight', 'patch_kernel', patch_kernel),
  *tree.norm(r'visual\.ln_pre', 'initial_norm'),
  *residual_block_rules(_OC_LAYER, 'layers'),
  *tree.norm(r'visual\.ln_post', 'final_norm'),
  tree.Rule(r'visual\.proj', 'projection'),  # [D, E] already
)
RULES = (
  *tree.under('image', (*HF_IMAGE_RULES, *OPENCLIP_IMAGE_RULES)),
  *tree.under('text', clip_text.RULES),
  # Some files have it as [1].
  tree.Rule('logit_scale', 'logit_scale', tree.scalar),
)


def convert_clip(state_dict: StateDict, model: CLIP) -> Converted:
  """Official CLIP state dict in either layout -> parameters of `model`.

  The layouts are transformers' `CLIPModel` (CLIP, PickScore), and `CLIP` of
  OpenAI, open_clip and HPSv2.
  """
  target = tree.parameter_shapes(
    model, image(model.image.resolution), prompt(model.text.length)
  )
  return tree.convert(state_dict, RULES, target, ignored=clip_text.CONSTANTS)


def clip_options(
  shapes: Shapes,
  *,
  num_heads: int | None = None,
  text_heads: int | None = None,
  activation: str | None = None,
) -> Options:
  """Options of `CLIP` in either layout: those of both towers.

  Args:
    shapes: shapes of the official entries.
    num_heads: heads of the image tower.
    text_heads: heads of the text tower.
    activation: activation of both towers, which no shape tells.

  Raises:
    ConversionError: if the activation is not given.
  """
  if _OPENCLIP_IMAGE['patches'] in shapes:
    names, text = _OPENCLIP_IMAGE, clip_text.openclip_text_options
  else:
    names, text = _HF_IMAGE, clip_text.clip_text_options
  width, _, patch, _ = shapes[names['patches']]
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
      'activation': prompts['activation'],
    },
    'text': prompts,
  }


def _model(image: Options, text: Options) -> CLIP:
  """`CLIP`, given JSON-serialisable options of its towers."""
  return CLIP(CLIPImageTower(**image), CLIPTextTower(**text))


CLIP_MODEL = CheckpointFormat(
  _model,
  ('visual_projection.weight', 'visual.conv1.weight'),
  clip_options,
  convert_clip,
  clip_config.of_model,
)
