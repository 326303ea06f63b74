"""Rendered scenes with captions, and rewards trained on them."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from softdimo_jax import families
from softdimo_jax.data import shapes
from softdimo_jax.data.captioned import CaptionedTokens
from softdimo_jax.data.prompts.records import Record
from softdimo_jax.data.shapes import vocabulary
from softdimo_jax.experiment.checks import choice
from softdimo_jax.experiment.inputs.interface import (
  Conditions,
  Draw,
  Inputs,
)
from softdimo_jax.generation.text_encoder import TextEncoder
from softdimo_jax.generation.tokens import image_encoder
from softdimo_jax.networks.generators.condition import TextCondition
from softdimo_jax.networks.rewards.clip import CLIP
from softdimo_jax.ops.preprocess import ImageTransform
from softdimo_jax.rewards.scoring import CLIPReward
from softdimo_jax.types import Params

# Batch size for rendering and tokenizing scenes, and for encoding captions.
_CHUNK = 2048
# Kinds of stages that train a reward.
_REWARDS = ('contrastive', 'preference')


class Scenes(Inputs):
  """Text-to-image data: scenes, with a CLIP that also encodes the prompts."""

  @functools.cached_property
  def world(self) -> shapes.World:
    """Geometry of the scenes."""
    return shapes.World(**self.config.data.world)

  @functools.cached_property
  def source(self) -> shapes.ShapesSource:
    """Training scenes with captions."""
    data = self.config.data
    return shapes.ShapesSource(
      world=self.world, seed=data.seed, num_examples=data.num_examples
    )

  def prompts(self, per_category: int, seed: int | None = None) -> list[Record]:
    """Evaluation prompts in the words of the captions."""
    colored = self.world.mention_color == 1
    seeds = {} if seed is None else {'seed': seed}
    return shapes.evaluation_prompts(per_category, colored=colored, **seeds)

  @functools.cached_property
  def captioned(self) -> CaptionedTokens:
    """Tokens and captions of the training scenes and of wrong variants."""
    encoder = image_encoder(self.family)
    params = encoder.place(self.params('tokenizer'))
    encode = lambda images: encoder(params, images, len(images))
    parts = []
    for start in range(0, len(self.source), _CHUNK):
      index = np.arange(start, min(start + _CHUNK, len(self.source)))
      pairs = self.source.gather_pairs(index)
      parts.append(
        (
          encode(pairs['image']),
          pairs['prompt_ids'],
          encode(pairs['wrong_image']),
          pairs['wrong_prompt_ids'],
        )
      )
    return CaptionedTokens(*map(np.concatenate, zip(*parts, strict=True)))

  @functools.cached_property
  def encode(self) -> TextEncoder:
    """Token ids int [N, T] -> condition of host arrays."""
    params = self.params(self.config.data.text_stage)['text']
    return TextEncoder(self.family, params, _CHUNK)

  @functools.cached_property
  def clip(self) -> CLIP:
    """Module of the rewards; its text tower also encodes the prompts."""
    return families.build_clip(self.config.image_tower, self.family)

  @functools.cached_property
  def clip_reward(self) -> CLIPReward:
    """Reward: cosine similarity of image and prompt."""
    size = self.clip.image.resolution
    return CLIPReward(module=self.clip, transform=ImageTransform(size=size))

  @property
  def scaled_clip_reward(self) -> CLIPReward:
    """Reward: cosine similarity times the learnt scale."""
    return dataclasses.replace(self.clip_reward, scaled=True)

  @property
  def trained_rewards(self) -> dict[str, CLIPReward]:
    """Rewards, by the stage that trains them."""
    by_kind = {
      'contrastive': self.clip_reward,
      'preference': self.scaled_clip_reward,
    }
    return {name: by_kind[self.config[name].kind] for name in self._trained}

  @property
  def _trained(self) -> tuple[str, ...]:
    """Stages that train a reward."""
    return tuple(
      name for name in self.config.stages if self.config[name].kind in _REWARDS
    )

  def rewards(self, names: Iterable[str]) -> dict[str, CLIPReward]:
    """See `Inputs.rewards`."""
    trained = self.trained_rewards
    return {name: trained[name] for name in names}

  def reward_params(self, names: Iterable[str]) -> dict[str, Params]:
    """See `Inputs.reward_params`."""
    return {name: self.params(name) for name in names}

  def validate(self) -> None:
    """See `Inputs.validate`."""
    config, size = self.config, self.family.image_shape[0]
    if self.world.size != size:
      raise ValueError(
        f'data.world: scenes have {self.world.size} pixels per side, images of '
        f'config.model {size}'
      )
    for name, least in (
      ('vocab_size', vocabulary.SIZE),
      ('length', vocabulary.MAX_LENGTH),
    ):
      if config.model.text[name] < least:
        raise ValueError(
          f'model.text.{name}={config.model.text[name]} must be at least '
          f'{least}'
        )
    # Also those that this run does not train: it may end before them.
    kinds = {
      name: section['kind']
      for name, section in config.to_dict().items()
      if isinstance(section, dict) and 'kind' in section
    }
    rewards = tuple(x for x, kind in kinds.items() if kind in _REWARDS)
    students = tuple(x for x, kind in kinds.items() if kind == 'distill')
    choice('data.text_stage', config.data.text_stage, rewards)
    for name in config.get('tteo', {}).get('terms', ()):
      choice('tteo.terms', name, rewards)
    evaluation = config.get('evaluation', {})
    for name in evaluation.get('tteo', {}).get('stages', ()):
      choice('evaluation.tteo.stages', name, students)
    self._validate_tower(config.image_tower)

  def _validate_tower(self, tower: ml_collections.ConfigDict) -> None:
    if tower.resolution % tower.patch:  # Released towers may drop pixels.
      raise ValueError(
        f'image_tower: images of {tower.resolution} pixels per side do not '
        f'divide into patches of {tower.patch}'
      )
    try:
      jax.eval_shape(
        self.clip.init,
        jax.random.key(0),
        jnp.zeros((1, *[tower.resolution] * 2, 3)),
        jnp.zeros((1, vocabulary.MAX_LENGTH), jnp.int32),
      )
    except (TypeError, ValueError) as error:
      raise ValueError(f'image_tower: {error}') from error

  def reward_names(self, earlier: Sequence[str]) -> tuple[str, ...]:
    """See `Inputs.reward_names`: rewards trained by earlier stages."""
    return tuple(name for name in earlier if name in self._trained)

  def check(self, kinds: Iterable[str], reads_tokens: bool) -> None:
    """See `Inputs.check`."""
    _ = self.source

  def images(self, draw: Draw) -> grain.DatasetIterator:
    """See `Inputs.images`."""
    return draw.gathered(len(self.source), self.source.gather)

  def tokens(
    self, draw: Draw, rewards: Iterable[str] = ()
  ) -> grain.DatasetIterator:
    """See `Inputs.tokens`."""
    data = self.captioned
    features = self.encode(data.unique_prompt_ids)
    return draw.gathered(
      len(data), lambda index: data.gather_with_text(index, features)
    )

  @functools.cached_property
  def null(self) -> TextCondition:
    """See `Inputs.null`."""
    return self.encode(shapes.null_tokens()[None])

  def prompt_ids(
    self, texts: Sequence[str], rewards: Iterable[str]
  ) -> np.ndarray:
    """See `Inputs.prompt_ids`: the token ids of the generator."""
    return shapes.tokenize_all(texts)

  def conditions(
    self, requested: Iterable[str], rewards: Iterable[str] = ()
  ) -> Conditions:
    """Conditions of prompts; see `Inputs.conditions`."""
    prompts = tuple(requested)
    ids = self.prompt_ids(prompts, rewards)
    return Conditions(prompts, ids, self.encode, ids)
