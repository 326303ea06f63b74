"""ImageReward's checkpoint -> `BLIPScorer` parameters."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from softdimo_jax.convert import tree
from softdimo_jax.convert.clip import patch_kernel
from softdimo_jax.convert.linear_head import head_rules
from softdimo_jax.networks.rewards.blip import BLIPScorer

_PARTS = ('query', 'key', 'value')
_IMAGE = r'blip\.visual_encoder'
_IMAGE_LAYER = rf'{_IMAGE}\.blocks\.(?P<layer>\d+)'
_TEXT = r'blip\.text_encoder'
_TEXT_LAYER = rf'{_TEXT}\.encoder\.layer\.(?P<layer>\d+)'


def _only_row(array: tree.Array) -> tree.Array:
  """[1, ...] -> [...]; the official code repeats it over the batch."""
  if array.shape[0] != 1:
    raise ValueError('one row is wanted')
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
    tree.Rule(
      rf'{_IMAGE_LAYER}\.attn\.qkv\.weight',
      tuple(f'layers/attention/{part}/kernel' for part in _PARTS),
      tree.split_rows(3, tree.linear_kernel),
    ),
    tree.Rule(
      rf'{_IMAGE_LAYER}\.attn\.qkv\.bias',
      tuple(f'layers/attention/{part}/bias' for part in _PARTS),
      tree.split_rows(3),
    ),
    *tree.linear(rf'{_IMAGE_LAYER}\.attn\.proj', 'layers/attention/out'),
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
  """Rules of BERT's attention, whose output layer holds the norm."""
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
# A range, and BLIP's own similarity, which the score does not read.
IGNORED = (
  rf'{_TEXT}\.embeddings\.position_ids',
  r'blip\.(?:vision|text)_proj\.(?:weight|bias)',
)


def convert_image_reward(
  state_dict: Mapping[str, tree.Array], scorer: BLIPScorer
) -> tuple[tree.Params, tree.Report]:
  """Official ImageReward state dict -> parameters of `scorer`.

  The official loader passes over entries that lack; this one does not.

  Args:
    state_dict: of `ImageReward`, as ImageReward.pt holds it.
    scorer: module of the checkpoint's configuration.

  Raises:
    ConversionError: if the two do not fit.
  """
  side = scorer.image.resolution
  images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  ids = jax.ShapeDtypeStruct((1, scorer.text.length), jnp.int32)
  target = tree.parameter_shapes(scorer, images, ids)
  return tree.convert(state_dict, RULES, target, ignored=IGNORED)
