"""What a reward is: a differentiable score of images, higher is better.

Every reward keeps its native scale and gives one score an image; how they are
weighted is another matter. The released ones are built in `rewards.py`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import chex
import jax
import jax.numpy as jnp

from softdimo_jax.networks.rewards.blip import BLIPScorer
from softdimo_jax.networks.rewards.clip import CLIP, CLIPImageTower
from softdimo_jax.networks.rewards.head import LinearHead
from softdimo_jax.ops.preprocess import ImageTransform
from softdimo_jax.ops.quantization import l2_normalize
from softdimo_jax.types import Params


class Reward(Protocol):
  """What training, test-time optimisation and evaluation ask of a reward."""

  def score(
    self, params: Params, images: jax.Array, prompt_ids: jax.Array
  ) -> jax.Array:
    """Scores of images for their prompts.

    Args:
      params: of the reward's network, frozen.
      images: float [B, H, W, 3] in [0, 1]; the gradient reaches them.
      prompt_ids: int [B, T], token ids of the prompts as the reward reads them.

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
    self, params: Params, images: jax.Array, prompt_ids: jax.Array
  ) -> jax.Array:
    """See `Reward`; of each pair, never the mean of the batch's matrix."""
    output = self.module.apply(
      {'params': params}, self.transform(images), prompt_ids
    )
    cosines = output.cosines
    return output.scale * cosines if self.scaled else cosines


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageReward:
  """What people prefer for a prompt (Xu et al. 2023), standardised.

  Prompt ids are BERT's word pieces, [CLS] first: `WordPieceTokenizer`.

  Attributes:
    module: the network.
    transform: from images to what its image tower sees.
    pad_id: id that pads prompts, which nothing attends to.
  """

  module: BLIPScorer
  transform: ImageTransform
  pad_id: int = 0

  def score(
    self, params: Params, images: jax.Array, prompt_ids: jax.Array
  ) -> jax.Array:
    """See `Reward`."""
    return self.module.apply(
      {'params': params},
      self.transform(images),
      prompt_ids,
      prompt_ids != self.pad_id,
    ).score


@dataclasses.dataclass(frozen=True, kw_only=True)
class AestheticReward:
  """How people rate an image, about 1 to 10, whatever its prompt says.

  Parameters are {'image': of the tower, 'head': of the head}, as they come from
  two checkpoints: OpenAI's CLIP ViT-L/14 and the predictor's.

  Attributes:
    image: the tower.
    head: reads its features as unit vectors.
    transform: from images to what the tower sees.
  """

  image: CLIPImageTower
  head: LinearHead
  transform: ImageTransform

  def score(
    self, params: Params, images: jax.Array, prompt_ids: jax.Array
  ) -> jax.Array:
    """See `Reward`; the prompts are not read."""
    del prompt_ids
    output = self.image.apply(
      {'params': params['image']}, self.transform(images)
    )
    features = l2_normalize(output.pooled)
    return self.head.apply({'params': params['head']}, features)


def scores(
  rewards: Mapping[str, Reward],
  params: Mapping[str, Params],
  images: jax.Array,
  prompt_ids: jax.Array | Mapping[str, jax.Array],
) -> dict[str, jax.Array]:
  """Scores [B] of every reward, by its name.

  Args:
    rewards: by name.
    params: of each, by name.
    images: float [B, H, W, 3] in [0, 1].
    prompt_ids: int [B, T]; where not all rewards read the same ids, by name.
  """
  chex.assert_rank(images, 4)
  by_name = isinstance(prompt_ids, Mapping)
  return {
    name: reward.score(
      params[name], images, prompt_ids[name] if by_name else prompt_ids
    )
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
