"""Released rewards, built from their weights, and their weighted sum.

With ReNO's weights (HPSv2.1 5, ImageReward 1, CLIP 0.01, PickScore 0.05) the
sum equals ReNO's up to a constant.

  combined = rewards.build(config)
  params = combined.load_params()
  prompt_ids = combined.captions(['a red cube'])
  combined.score(params, images, prompt_ids)
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from softdimo_jax import defaults
from softdimo_jax.convert import weights as official
from softdimo_jax.data.prompts.cut import counted
from softdimo_jax.data.prompts.text_tokens import (
  CLIPTokenizer,
  WordPieceTokenizer,
)
from softdimo_jax.errors import UserError
from softdimo_jax.networks import layers
from softdimo_jax.networks.rewards.blip import BLIPScorer
from softdimo_jax.networks.rewards.clip import CLIP, openai_vit_l
from softdimo_jax.networks.rewards.head import LinearHead
from softdimo_jax.ops.preprocess import ImageTransform
from softdimo_jax.rewards.scoring import (
  AestheticReward,
  CLIPReward,
  ImageReward,
  Reward,
  scores,
  total,
)
from softdimo_jax.types import Params

DTYPES = ('float32', 'bfloat16', 'float16')
REMATS = tuple(layers.REMAT_POLICIES)

# Prompts -> token ids int32 [B, T] for one of the networks.
Tokenizer = Callable[[Sequence[str]], np.ndarray]
Module = TypeVar('Module', bound=nn.Module)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rewards:
  """Released rewards and their weighted sum, without parameters.

  Attributes:
    rewards: the rewards, by name.
    terms: weights of the sum, by reward.
    tokenizers: tokenizers of the prompts, by reward.
    sources: origin of the parameters, by reward.
    loaders: functions that read the parameters, by reward.
  """

  rewards: Mapping[str, Reward]
  terms: Mapping[str, float]
  tokenizers: Mapping[str, Tokenizer]
  sources: Mapping[str, str]
  loaders: Mapping[str, Callable[[], Params]]

  def load_params(self) -> dict[str, Params]:
    """Reads the parameters of all rewards, by name; not cached."""
    return {name: load() for name, load in self.loaders.items()}

  def captions(self, prompts: Sequence[str]) -> dict[str, np.ndarray]:
    """Token ids int32 [B, T] of prompts, by reward."""
    return {
      name: tokenizer(prompts) for name, tokenizer in self.tokenizers.items()
    }

  def score(
    self,
    params: Mapping[str, Params],
    images: jax.Array,
    prompt_ids: Mapping[str, jax.Array],
  ) -> jax.Array:
    """Weighted sum float32 [B]; arguments as in `scores`."""
    return total(scores(self.rewards, params, images, prompt_ids), self.terms)


def build(config: ml_collections.ConfigDict | Mapping[str, Any]) -> Rewards:
  """Builds the weighted sum of the released rewards in a configuration.

  Args:
    config: `terms` maps names in `RELEASED` to weights of the sum; all else
      defaults to `defaults.rewards`: `weights` maps names to converted folders,
      official files, Hub ids or 'rule'; `antialias` of the resize changes every
      score, so state it with an HPS; `dtype` of the matrix products; `remat` of
      the blocks; `clip_vocabulary`; `bert_vocabulary`.

  Raises:
    UserError: naming an unknown option, or missing weights or vocabularies.
  """
  options = _options(config)
  parts = {name: RELEASED[name](options) for name in options.terms}
  return Rewards(
    rewards={name: part.reward for name, part in parts.items()},
    terms=options.terms.to_dict(),
    tokenizers={name: part.tokenizer for name, part in parts.items()},
    sources={name: part.source for name, part in parts.items()},
    loaders={name: part.load for name, part in parts.items()},
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Part:
  """One released reward; see `Rewards`."""

  reward: Reward
  tokenizer: Tokenizer
  source: str
  load: Callable[[], Params]


def _options(config: Mapping[str, Any]) -> ml_collections.ConfigDict:
  """The configuration on top of the defaults, without default terms."""
  options = defaults.rewards()
  given = ml_collections.ConfigDict(config)
  if not given.get('terms'):
    raise UserError('rewards.terms is empty: give rewards and their weights')
  _check_names('', given, tuple(options))
  _check_names('terms.', given.terms, tuple(RELEASED))
  _check_names('weights.', given.get('weights', {}), tuple(options.weights))
  options.terms = ml_collections.ConfigDict()
  options.update(given)
  for name, known in (('dtype', DTYPES), ('remat', REMATS)):
    if options[name] not in known:
      raise UserError(
        f'rewards.{name}={options[name]!r} is unknown; choose one of {known}'
      )
  return options


def _check_names(
  section: str, given: Iterable[str], known: tuple[str, ...]
) -> None:
  for name in given:
    if name not in known:
      raise UserError(
        f'rewards.{section}{name} is unknown; choose one of {known}'
      )


def _find(
  name: str,
  family: str,
  default: Callable[[], Module],
  options: ml_collections.ConfigDict,
  **kwargs: Any,
) -> official.Weights[Module]:
  where = options.weights[name]
  if not where:
    raise UserError(
      f'rewards.weights.{name} is empty; set it to a converted folder, an '
      'official file or a Hub id'
    )
  try:
    return official.find(where, family, default=default, **kwargs)
  except UserError as error:
    raise UserError(f'rewards.weights.{name}: {error}') from error


def _tokenizer(
  options: ml_collections.ConfigDict, field: str, kind: type, **kwargs: Any
) -> Any:
  """Tokenizer of class `kind` with the vocabulary of an option."""
  try:
    return kind.load(options[field], **kwargs)
  except UserError as error:
    raise UserError(f'rewards.{field}: {error}') from error


def _clip_tokenizer(
  name: str,
  options: ml_collections.ConfigDict,
  vocab_size: int,
  length: int,
) -> Tokenizer:
  tokenizer = _tokenizer(
    options, 'clip_vocabulary', CLIPTokenizer, length=length
  )
  largest = max(tokenizer.vocabulary.ids.values())
  if largest >= vocab_size:
    raise UserError(
      f'rewards.clip_vocabulary={options.clip_vocabulary} has ids up to '
      f'{largest}, but the network has {vocab_size} tokens'
    )
  return counted(tokenizer, f'the reward {name}')


def _transform(
  options: ml_collections.ConfigDict, resolution: int
) -> ImageTransform:
  return ImageTransform(size=resolution, antialias=options.antialias)


def _tower(module: Module, options: ml_collections.ConfigDict) -> Module:
  dtype = jnp.dtype(options.dtype)
  return module.clone(dtype=dtype, remat=options.remat)


def _towers(module: Module, options: ml_collections.ConfigDict) -> Module:
  """A two-tower model with the dtype and rematerialisation of the options."""
  return module.clone(
    image=_tower(module.image, options), text=_tower(module.text, options)
  )


def _clip(name: str, scaled: bool, options: ml_collections.ConfigDict) -> _Part:
  # HPSv2's file has no configuration beside it.
  overrides = {'activation': 'gelu'} if name == 'hpsv2' else None
  found = _find(name, 'clip', CLIP, options, overrides=overrides)
  module = _towers(found.module, options)
  return _Part(
    reward=CLIPReward(
      module=module,
      transform=_transform(options, module.image.resolution),
      scaled=scaled,
    ),
    tokenizer=_clip_tokenizer(
      name, options, module.text.vocab_size, module.text.length
    ),
    source=found.source,
    load=found.load,
  )


def _imagereward(options: ml_collections.ConfigDict) -> _Part:
  found = _find('imagereward', 'image_reward', BLIPScorer, options)
  module = _towers(found.module, options)
  tokenizer = _tokenizer(options, 'bert_vocabulary', WordPieceTokenizer)
  if len(tokenizer.vocabulary) > module.text.vocab_size:
    raise UserError(
      f'rewards.bert_vocabulary={options.bert_vocabulary} has '
      f'{len(tokenizer.vocabulary)} pieces, but the network has '
      f'{module.text.vocab_size} tokens'
    )
  return _Part(
    reward=ImageReward(
      module=module,
      transform=_transform(options, module.image.resolution),
      pad_id=tokenizer.vocabulary['[PAD]'],
    ),
    tokenizer=counted(tokenizer, 'the reward imagereward'),
    source=found.source,
    load=found.load,
  )


def _aesthetic(options: ml_collections.ConfigDict) -> _Part:
  clip = _find('aesthetic_clip', 'clip', openai_vit_l, options)
  image = _tower(clip.module.image, options)
  head = _find(
    'aesthetic',
    'aesthetic_head',
    LinearHead,
    options,
    inputs=[jax.ShapeDtypeStruct((1, image.projection_width), jnp.float32)],
  )
  return _Part(
    reward=AestheticReward(
      image=image,
      head=head.module,
      transform=_transform(options, image.resolution),
    ),
    tokenizer=lambda prompts: np.zeros((len(prompts), 1), np.int32),
    source=f'{head.source} on {clip.source}',
    load=lambda: {'image': clip.load()['image'], 'head': head.load()},
  )


# Names in `terms` -> builders. HPSv2 and PickScore share CLIP's ViT-H/14 and
# differ in their weights and in the scale of the cosines.
RELEASED: Mapping[str, Callable[[ml_collections.ConfigDict], _Part]] = {
  'clip': functools.partial(_clip, 'clip', True),
  'hpsv2': functools.partial(_clip, 'hpsv2', False),
  'pickscore': functools.partial(_clip, 'pickscore', True),
  'imagereward': _imagereward,
  'aesthetic': _aesthetic,
}
