"""Rewards: differentiable scores of images, higher is better.

Every reward keeps its native scale and gives one score an image; how they are
weighted is another matter. With the weights of ReNO (HPSv2.1 5, ImageReward 1,
CLIP .01, PickScore .05) the total is ReNO's up to a constant.
"""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import chex
import jax
import jax.numpy as jnp

from softdimo_jax.family import Params
from softdimo_jax.method.preprocess import ImageTransform
from softdimo_jax.networks.rewards.clip import CLIP


class Reward(Protocol):
  """What training, test-time optimisation and evaluation ask of a reward."""

  def score(
    self, params: Params, images: jax.Array, captions: jax.Array
  ) -> jax.Array:
    """Scores of images for their prompts.

    Args:
      params: of the reward's network, frozen.
      images: float [B, H, W, 3] in [0, 1]; the gradient reaches them.
      captions: int [B, T], token ids of the prompts as the reward reads them.

    Returns:
      float32 [B], higher is better.
    """


@dataclasses.dataclass(frozen=True, kw_only=True)
class CLIPReward:
  """Similarity of image and prompt in a CLIP model: CLIP score, HPS, PickScore.

  Attributes:
    module: the model.
    transform: from images to what its image tower sees.
    scaled: whether the cosine is multiplied by the model's exp(logit_scale),
      as CLIP score and PickScore are and HPS is not.
  """

  module: CLIP
  transform: ImageTransform
  scaled: bool = False

  def score(
    self, params: Params, images: jax.Array, captions: jax.Array
  ) -> jax.Array:
    """See `Reward`; of each pair, never the mean of the batch's matrix."""
    output = self.module.apply(
      {'params': params}, self.transform(images), captions
    )
    cosine = (output.image * output.text).sum(-1)
    return output.scale * cosine if self.scaled else cosine


def scores(
  rewards: Mapping[str, Reward],
  params: Mapping[str, Params],
  images: jax.Array,
  captions: jax.Array,
) -> dict[str, jax.Array]:
  """Scores [B] of every reward, by its name."""
  chex.assert_rank(images, 4)
  return {
    name: reward.score(params[name], images, captions)
    for name, reward in rewards.items()
  }


def total(
  scores: Mapping[str, jax.Array], weights: Mapping[str, float]
) -> jax.Array:
  """Weighted sum [B] of the scores that `weights` names."""
  return sum(weight * scores[name] for name, weight in weights.items())


def straight_through_clip(images: jax.Array) -> jax.Array:
  """Images clipped to [0, 1] whose gradient is that of the unclipped ones.

  A hard clip would leave saturated pixels without a gradient.
  """
  return images + jax.lax.stop_gradient(jnp.clip(images, 0, 1) - images)
