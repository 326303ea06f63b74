"""CLIP text towers -> `CLIPTextTower` parameters.

One set of rules for both layouts, whose names differ throughout: transformers'
(`text_model.`) and open_clip's. Files of whole CLIP models serve as well.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from softdimo_jax.convert import tree
from softdimo_jax.convert.block import residual_block_rules
from softdimo_jax.networks.text.clip import CLIPTextTower

_HF_LAYER = r'text_model\.encoder\.layers\.(?P<layer>\d+)'
_OC_LAYER = r'transformer\.resblocks\.(?P<layer>\d+)'

HF_RULES = (
  tree.Rule(r'text_model\.embeddings\.token_embedding\.weight', 'token_emb'),
  tree.Rule(r'text_model\.embeddings\.position_embedding\.weight', 'pos_emb'),
  *tree.norm(rf'{_HF_LAYER}\.layer_norm1', 'layers/attention_norm'),
  *tree.norm(rf'{_HF_LAYER}\.layer_norm2', 'layers/mlp_norm'),
  *(
    rule
    for official, ours in (
      ('q_proj', 'query'),
      ('k_proj', 'key'),
      ('v_proj', 'value'),
      ('out_proj', 'out'),
    )
    for rule in tree.linear(
      rf'{_HF_LAYER}\.self_attn\.{official}', f'layers/attention/{ours}'
    )
  ),
  *tree.linear(rf'{_HF_LAYER}\.mlp\.fc1', 'layers/mlp_in'),
  *tree.linear(rf'{_HF_LAYER}\.mlp\.fc2', 'layers/mlp_out'),
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

# The image half of the model, and constants.
IGNORED = (
  r'(?:vision_model|visual_projection|visual)\..*',
  r'text_model\.embeddings\.position_ids',
  r'logit_scale|input_resolution|context_length|vocab_size',
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
  rules = (*HF_RULES, *OPENCLIP_RULES)
  return tree.convert(state_dict, rules, target, ignored=IGNORED)
