"""CLIP text towers -> `CLIPTextTower` parameters.

One set of rules covers both layouts, transformers' (`text_model.`) and
open_clip's, because they share no names. Files of whole CLIP models work too.
"""

from collections.abc import Mapping

from softdimo_jax.convert import clip_config, tree
from softdimo_jax.convert.block import (
  encoder_layer_rules,
  residual_block_rules,
)
from softdimo_jax.convert.format import CheckpointFormat, Converted, StateDict
from softdimo_jax.convert.shapes import Options, Shapes, heads_of_64, prompt
from softdimo_jax.networks.text.clip import CLIPTextTower

_HF_LAYER = r'text_model\.encoder\.layers\.(?P<layer>\d+)'
_OC_LAYER = r'transformer\.resblocks\.(?P<layer>\d+)'

HF_RULES = (
  tree.Rule(r'text_model\.embeddings\.token_embedding\.weight', 'token_emb'),
  tree.Rule(r'text_model\.embeddings\.position_embedding\.weight', 'pos_emb'),
  *encoder_layer_rules(_HF_LAYER, 'layers'),
  *tree.norm(r'text_model\.final_layer_norm', 'final_norm'),
  tree.Rule(r'text_projection\.weight', 'projection', tree.linear_kernel),
)
OPENCLIP_RULES = (
  tree.Rule(r'token_embedding\.weight', 'token_emb'),
  tree.Rule('positional_embedding', 'pos_emb'),
  *residual_block_rules(_OC_LAYER, 'layers'),
  *tree.norm('ln_final', 'final_norm'),
  tree.Rule('text_projection', 'projection'),  # [D, P] already
)

RULES = (*HF_RULES, *OPENCLIP_RULES)

# OpenAI's sizes, entries of older files.
CONSTANTS = (r'input_resolution|context_length|vocab_size',)
# The image half of the model, and constants.
IGNORED = (
  r'(?:vision_model|visual_projection|visual)\..*',
  'logit_scale',
  *CONSTANTS,
)


def convert_clip_text(state_dict: StateDict, tower: CLIPTextTower) -> Converted:
  """Official CLIP state dict in either layout -> parameters of `tower`.

  It may be that of `CLIPTextModelWithProjection`, or of a whole `CLIPModel` or
  open_clip `CLIP`, whose image half is ignored.
  """
  target = tree.parameter_shapes(tower, prompt(tower.length))
  return tree.convert(state_dict, RULES, target, ignored=IGNORED)


# Entries whose shapes `_sizes` reads.
_HF_NAMES = {
  'tokens': 'text_model.embeddings.token_embedding.weight',
  'positions': 'text_model.embeddings.position_embedding.weight',
  'layers': r'text_model\.encoder\.layers\.(\d+)\.',
  'mlp': 'text_model.encoder.layers.0.mlp.fc1.weight',
}


def clip_text_options(
  shapes: Shapes,
  *,
  num_heads: int | None = None,
  activation: str | None = None,
) -> Options:
  """Options of `CLIPTextTower` for transformers."""
  return {
    **_sizes(shapes, _HF_NAMES, num_heads),
    'projection_width': shapes['text_projection.weight'][0],
    'activation': clip_config.checked(activation),
  }


_OPENCLIP_NAMES = {
  'tokens': 'token_embedding.weight',
  'positions': 'positional_embedding',
  'layers': r'transformer\.resblocks\.(\d+)\.',
  'mlp': 'transformer.resblocks.0.mlp.c_fc.weight',
}


def openclip_text_options(
  shapes: Shapes,
  *,
  num_heads: int | None = None,
  activation: str | None = None,
) -> Options:
  """Options of `CLIPTextTower` for open_clip."""
  return {
    **_sizes(shapes, _OPENCLIP_NAMES, num_heads),
    'projection_width': shapes['text_projection'][1],
    'activation': clip_config.checked(activation),
  }


def _sizes(
  shapes: Shapes, names: Mapping[str, str], num_heads: int | None
) -> Options:
  vocab_size, width = shapes[names['tokens']]
  return {
    'vocab_size': vocab_size,
    'length': shapes[names['positions']][0],
    'width': width,
    'depth': shapes.count(names['layers']),
    'num_heads': heads_of_64(width, num_heads),
    'mlp_width': shapes[names['mlp']][0],
  }


CLIP_TEXT = CheckpointFormat(
  CLIPTextTower,
  'text_model.final_layer_norm.weight',
  clip_text_options,
  convert_clip_text,
  clip_config.of_text,
)
OPENCLIP_TEXT = CheckpointFormat(
  CLIPTextTower,
  'ln_final.weight',
  openclip_text_options,
  convert_clip_text,
  clip_config.of_text,
)
