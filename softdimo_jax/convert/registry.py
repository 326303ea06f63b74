"""The families whose official checkpoints can be converted."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from softdimo_jax.convert import reward_sizes, sizes, text_sizes
from softdimo_jax.convert.clip import convert_clip
from softdimo_jax.convert.clip_text import convert_clip_text
from softdimo_jax.convert.diffusers_vq import convert_diffusers_vq
from softdimo_jax.convert.google_maskgit import (
  convert_google_maskgit,
  convert_google_tokenizer,
)
from softdimo_jax.convert.image_reward import convert_image_reward
from softdimo_jax.convert.inception import convert_inception
from softdimo_jax.convert.linear_head import convert_aesthetic_head
from softdimo_jax.convert.maskbit import convert_maskbit
from softdimo_jax.convert.maskbit_tokenizer import convert_maskbit_tokenizer
from softdimo_jax.convert.maskgen import convert_maskgen
from softdimo_jax.convert.maskgit import convert_maskgit
from softdimo_jax.convert.meissonic import convert_meissonic
from softdimo_jax.convert.taming_vqgan import convert_taming_vqgan
from softdimo_jax.convert.tatitok import convert_tatitok
from softdimo_jax.convert.tree import Array, ConversionError, Report
from softdimo_jax.networks.generators.google_maskgit import (
  GoogleMaskGitTransformer,
)
from softdimo_jax.networks.generators.maskbit import (
  MaskBitTableTransformer,
  MaskBitTransformer,
)
from softdimo_jax.networks.generators.maskgen import MaskGenTransformer
from softdimo_jax.networks.generators.maskgit import MaskGitTransformer
from softdimo_jax.networks.generators.meissonic import MeissonicTransformer
from softdimo_jax.networks.inception import Inception
from softdimo_jax.networks.rewards.blip import (
  BLIPImageTower,
  BLIPScorer,
  BLIPTextEncoder,
)
from softdimo_jax.networks.rewards.clip import CLIP, CLIPImageTower
from softdimo_jax.networks.rewards.head import LinearHead
from softdimo_jax.networks.text.clip import CLIPTextTower
from softdimo_jax.networks.tokenizers.diffusers_vq import DiffusersVQ
from softdimo_jax.networks.tokenizers.maskbit import MaskBitTokenizer
from softdimo_jax.networks.tokenizers.taming_vqgan import TamingVQGAN
from softdimo_jax.networks.tokenizers.tatitok import TATiTok
from softdimo_jax.types import Params

StateDict = Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class Family:
  """One kind of official checkpoint.

  Attributes:
    module: constructor options -> our module of it.
    mark: an official entry that this family has and no other, or one of each
      of its layouts.
    sizes: shapes of the entries -> constructor options of the module.
    convert: (state dict, module) -> (parameters, report), strict.
  """

  module: Callable[..., nn.Module]
  mark: str | tuple[str, ...]
  sizes: Callable[..., sizes.Options]
  convert: Callable[[StateDict, nn.Module], tuple[Params, Report]]

  @property
  def marks(self) -> tuple[str, ...]:
    return (self.mark,) if isinstance(self.mark, str) else self.mark

  def has(self, state_dict: StateDict) -> bool:
    """Whether a state dict is of this family, by a mark in it."""
    return any(mark in state_dict for mark in self.marks)


def _clip(image: sizes.Options, text: sizes.Options) -> CLIP:
  """`CLIP` of the options of its towers, which JSON can hold."""
  return CLIP(CLIPImageTower(**image), CLIPTextTower(**text))


def _image_reward(
  image: sizes.Options, text: sizes.Options, head_widths: tuple[int, ...]
) -> BLIPScorer:
  """`BLIPScorer` likewise."""
  return BLIPScorer(
    BLIPImageTower(**image), BLIPTextEncoder(**text), head_widths
  )


FAMILIES = {
  'maskgit': Family(
    MaskGitTransformer, 'tok_emb.weight', sizes.maskgit, convert_maskgit
  ),
  'taming_vqgan': Family(
    TamingVQGAN,
    'encoder.mid.attn_1.q.weight',
    sizes.taming_vqgan,
    convert_taming_vqgan,
  ),
  'maskbit': Family(
    MaskBitTransformer,
    'prediction_layer.weight',
    sizes.maskbit,
    convert_maskbit,
  ),
  'maskbit_table': Family(
    MaskBitTableTransformer,
    'tok_emb_list.0.weight',
    sizes.maskbit_table,
    convert_maskbit,
  ),
  'maskbit_tokenizer': Family(
    MaskBitTokenizer,
    'encoder.mid.res_blocks.0.norm1.weight',
    sizes.maskbit_tokenizer,
    convert_maskbit_tokenizer,
  ),
  'google_maskgit': Family(
    GoogleMaskGitTransformer,
    'MlmLayer_0/mlm_bias/bias',
    sizes.google_maskgit,
    convert_google_maskgit,
  ),
  'google_tokenizer': Family(
    MaskBitTokenizer,
    'quantizer/codebook',
    sizes.google_tokenizer,
    convert_google_tokenizer,
  ),
  'maskgen': Family(
    MaskGenTransformer,
    'text_embed_proj.weight',
    text_sizes.maskgen,
    convert_maskgen,
  ),
  'tatitok': Family(
    TATiTok, 'latent_tokens', text_sizes.tatitok, convert_tatitok
  ),
  'meissonic': Family(
    MeissonicTransformer,
    'cond_embed.linear_1.weight',
    text_sizes.meissonic,
    convert_meissonic,
  ),
  'meissonic_vq': Family(
    DiffusersVQ,
    'encoder.mid_block.resnets.0.conv1.weight',
    text_sizes.diffusers_vq,
    convert_diffusers_vq,
  ),
  'image_reward': Family(
    _image_reward,
    'blip.visual_encoder.cls_token',
    reward_sizes.image_reward,
    convert_image_reward,
  ),
  'aesthetic_head': Family(
    LinearHead,
    'layers.0.weight',
    reward_sizes.aesthetic_head,
    convert_aesthetic_head,
  ),
  # Before the text towers, whose marks whole models have, too.
  'clip': Family(
    _clip,
    ('visual_projection.weight', 'visual.conv1.weight'),
    text_sizes.clip,
    convert_clip,
  ),
  'clip_text': Family(
    CLIPTextTower,
    'text_model.final_layer_norm.weight',
    text_sizes.clip_text,
    convert_clip_text,
  ),
  'openclip_text': Family(
    CLIPTextTower,
    'ln_final.weight',
    text_sizes.openclip_text,
    convert_clip_text,
  ),
  'inception': Family(
    Inception,
    'Conv2d_1a_3x3.conv.weight',
    sizes.inception,
    convert_inception,
  ),
}


def infer(
  name: str, state_dict: StateDict, told: Mapping[str, Any]
) -> sizes.Options:
  """Constructor options of the module that a checkpoint belongs to.

  Args:
    name: of the family.
    state_dict: official name -> array or `jax.ShapeDtypeStruct`.
    told: what no shape tells, where it is not as released.

  Raises:
    ConversionError: for a checkpoint of another family or of impossible
      shapes, and if something is told that the family does not take.
  """
  family = FAMILIES[name]
  if not family.has(state_dict):
    raise ConversionError(_not_of(name, state_dict))
  taken = inspect.signature(family.sizes).parameters
  for option in told:
    if option not in taken:
      raise ConversionError(f'{name} takes no --{option}')
  try:
    return family.sizes(sizes.Shapes.of(state_dict), **told)
  except ConversionError:
    raise
  except (IndexError, ValueError, ZeroDivisionError) as error:
    raise ConversionError(
      f'the entries have shapes that no {name} checkpoint has'
    ) from error


def build(name: str, options: Mapping[str, Any]) -> nn.Module:
  """Module of a family.

  Args:
    name: of the family.
    options: of its constructor, as `infer` makes them or after a trip
      through JSON, which has lists for tuples.

  Raises:
    KeyError: for an unknown family.
    TypeError: for an unknown option.
  """
  return FAMILIES[name].module(
    **{
      option: tuple(value) if isinstance(value, list) else value
      for option, value in options.items()
    }
  )


def _not_of(name: str, state_dict: StateDict) -> str:
  found = [
    other for other, family in FAMILIES.items() if family.has(state_dict)
  ]
  if found:
    return f'a checkpoint of the family {found[0]}, not {name}'
  marks = ' or '.join(FAMILIES[name].marks)
  return f'no {name} checkpoint: there is no official entry {marks}'
