"""Rewards: differentiable scores of images, higher is better.

Every reward keeps its native scale and returns one score per image. The
released ones are built, and weighted, in `released.py`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Protocol, cast

import chex
import jax
import jax.numpy as jnp

from softdimo_jax.networks.call import call
from softdimo_jax.networks.rewards.blip import BLIPScorer
from softdimo_jax.networks.rewards.clip import CLIP, CLIPImageTower
from softdimo_jax.networks.rewards.head import LinearHead
from softdimo_jax.ops.preprocess import ImageTransform
from softdimo_jax.ops.quantization import l2_normalize
from softdimo_jax.types import Params


class Reward(Protocol):
  """Interface of rewards for training, test-time optimisation, evaluation."""

  def score(
    self, params: Params, images: jax.Array, prompt_ids: jax.Array
  ) -> jax.Array:
    """Scores of images for their prompts.

    Args:
      params: frozen parameters of the reward's network.
      images: float [B, H, W, 3] in [0, 1], differentiable.
      prompt_ids: int [B, T], from the reward's tokenizer.

    Returns:
      float32 [B], higher is better.
    """
    ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class CLIPReward:
  """Cosine of image and prompt in a CLIP model: CLIP score, HPS, PickScore.

  Attributes:
    module: the model.
    transform: preprocessing for its image tower.
    scaled: whether the cosine is multiplied by the model's exp(logit_scale), as
      in CLIP score and PickScore but not in HPS.
  """

  module: CLIP
  transform: ImageTransform
  scaled: bool = False

  def score(
    self, params: Params, images: jax.Array, prompt_ids: jax.Array
  ) -> jax.Array:
    """See `Reward`."""
    output = call(self.module, params, self.transform(images), prompt_ids)
    cosines = output.cosines
    return output.scale * cosines if self.scaled else cosines


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageReward:
  """Standardised human preference for a prompt (Xu et al. 2023).

  Prompt ids are BERT's word pieces, [CLS] first; see `WordPieceTokenizer`.

  Attributes:
    module: the network.
    transform: preprocessing for its image tower.
    pad_id: padding id of prompts, masked in attention.
  """

  module: BLIPScorer
  transform: ImageTransform
  pad_id: int = 0

  def score(
    self, params: Params, images: jax.Array, prompt_ids: jax.Array
  ) -> jax.Array:
    """See `Reward`."""
    return call(
      self.module,
      params,
      self.transform(images),
      prompt_ids,
      prompt_ids != self.pad_id,
    ).score


@dataclasses.dataclass(frozen=True, kw_only=True)
class AestheticReward:
  """Human rating of an image, about 1 to 10, independent of its prompt.

  Parameters are {'image': ..., 'head': ...} because they come from two
  checkpoints, OpenAI's CLIP ViT-L/14 and the predictor's.

  Attributes:
    image: the image tower.
    head: maps its normalised features to the rating.
    transform: preprocessing for the tower.
  """

  image: CLIPImageTower
  head: LinearHead
  transform: ImageTransform

  def score(
    self, params: Params, images: jax.Array, prompt_ids: jax.Array
  ) -> jax.Array:
    """See `Reward`; the prompts are ignored."""
    del prompt_ids
    output = call(self.image, params['image'], self.transform(images))
    features = l2_normalize(output.pooled)
    return call(self.head, params['head'], features)


def scores(
  rewards: Mapping[str, Reward],
  params: Mapping[str, Params],
  images: jax.Array,
  prompt_ids: jax.Array | Mapping[str, jax.Array],
) -> dict[str, jax.Array]:
  """Scores [B] of all rewards, by name.

  Args:
    rewards: rewards, by name.
    params: their parameters, by name.
    images: float [B, H, W, 3] in [0, 1].
    prompt_ids: int [B, T]; by name if the rewards differ in tokenizer.
  """
  chex.assert_rank(images, 4)
  return {
    name: reward.score(
      params[name],
      images,
      prompt_ids[name] if isinstance(prompt_ids, Mapping) else prompt_ids,
    )
    for name, reward in rewards.items()
  }


def total(
  scores: Mapping[str, jax.Array], weights: Mapping[str, float]
) -> jax.Array:
  """Weighted sum [B] of the scores named in `weights`."""
  terms = (weight * scores[name] for name, weight in weights.items())
  return cast(jax.Array, sum(terms))  # not 0: there is at least one term


def straight_through_clip(images: jax.Array) -> jax.Array:
  """Clips images to [0, 1] with a straight-through gradient.

  A hard clip would give saturated pixels no gradient.
  """
  return images + jax.lax.stop_gradient(jnp.clip(images, 0, 1) - images)
