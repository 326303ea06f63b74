"""Whole CLIP models -> `CLIP` parameters: transformers', open_clip's, HPSv2's.

The text half has the rules of the text towers; `convert_clip_text` says why one
set serves both layouts.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from softdimo_jax.convert import clip_text, tree
from softdimo_jax.convert.block import (
  encoder_layer_rules,
  residual_block_rules,
)
from softdimo_jax.networks.rewards.clip import CLIP

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
  # The official name lacks an n.
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
  tree.Rule('logit_scale', 'logit_scale'),
)


def convert_clip(
  state_dict: Mapping[str, tree.Array], model: CLIP
) -> tuple[tree.Params, tree.Report]:
  """Official CLIP state dict, of either layout -> parameters of `model`.

  Args:
    state_dict: of transformers' `CLIPModel` (CLIP, PickScore), or of `CLIP` as
      OpenAI, open_clip and HPSv2 have it.
    model: module of the checkpoint's configuration.

  Raises:
    ConversionError: if the two do not fit.
  """
  side = model.image.resolution
  images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  ids = jax.ShapeDtypeStruct((1, model.text.length), jnp.int32)
  target = tree.parameter_shapes(model, images, ids)
  return tree.convert(state_dict, RULES, target, ignored=clip_text.CONSTANTS)
