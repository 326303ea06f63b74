"""CLIP text towers -> `CLIPTextTower` parameters.

One set of rules for both layouts, whose names differ throughout: transformers'
(`text_model.`) and open_clip's. Files of whole CLIP models serve as well.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from softdimo_jax.convert import tree
from softdimo_jax.convert.block import (
  encoder_layer_rules,
  residual_block_rules,
)
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

# What older files hold beside parameters: ranges, and OpenAI's sizes.
CONSTANTS = (
  r'(?:text|vision)_model\.embeddings\.position_ids',
  r'input_resolution|context_length|vocab_size',
)
# The image half of the model, and constants.
IGNORED = (
  r'(?:vision_model|visual_projection|visual)\..*',
  'logit_scale',
  *CONSTANTS,
)


def convert_clip_text(
  state_dict: Mapping[str, tree.Array], tower: CLIPTextTower
) -> tuple[tree.Params, tree.Report]:
  """Official CLIP state dict, of either layout -> parameters of `tower`.

  Args:
    state_dict: of `CLIPTextModelWithProjection`, or of a whole `CLIPModel` or
      open_clip `CLIP`, whose image half is left out.
    tower: module of the checkpoint's configuration.

  Raises:
    ConversionError: if the two do not fit.
  """
  ids = jax.ShapeDtypeStruct((1, tower.length), jnp.int32)
  target = tree.parameter_shapes(tower, ids)
  return tree.convert(state_dict, RULES, target, ignored=IGNORED)
