"""The HPSv2 benchmark (Wu et al. 2023): four styles with 800 prompts each.

PROMPTS/anime.json, ...          lists of prompts
IMAGES/anime/00000.jpg, ...      one image per prompt
"""

import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from softdimo_jax.data.prompts import pairs, sources
from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.features.network import ImageNetwork
from softdimo_jax.evaluation.sets.images import FolderImages
from softdimo_jax.networks.call import call
from softdimo_jax.rewards.scoring import CLIPReward
from softdimo_jax.types import Params

STYLES = ('anime', 'concept-art', 'paintings', 'photo')
# The deviation of a style is taken over means of this many consecutive images.
_GROUP = 80
# Scores are cosines times 100.
_SCALE = 100


def score_embedder(
  reward: CLIPReward, params: Params, batch_size: int = 64
) -> ImageNetwork:
  """The image tower of a reward, for images of equal size.

  It returns features float32 [B, E], which are not normalised.
  """

  def forward(params: Params, pixels: jax.Array) -> tuple[jax.Array, ...]:
    inputs = reward.transform(pixels / 255)
    return (call(reward.module, params, inputs, method='image_features'),)

  return ImageNetwork(
    module=reward.module, params=params, forward=forward, batch_size=batch_size
  )


def style_prompts(
  folder: str, styles: Sequence[str], limit: int | None = None
) -> dict[str, list[str]]:
  """Reads the prompts of each style.

  Args:
    folder: folder with one STYLE.json per style.
    styles: names of styles; the benchmark's are `STYLES`.
    limit: number of leading prompts to take per style; None takes all.

  Raises:
    UserError: if no style is named or one twice, or a file is missing or not a
      list of prompts.
  """
  if not all(styles) or not styles or len(set(styles)) < len(styles):
    raise UserError(
      f'--styles={",".join(styles)} must name at least one style, and none '
      f'twice; the benchmark has {", ".join(STYLES)}'
    )
  found = {}
  for style in styles:
    path = pathlib.Path(folder) / f'{style}.json'
    if not path.is_file():
      raise UserError(
        f'{path} is missing; the benchmark has one STYLE.json for each of '
        f'{", ".join(STYLES)}'
      )
    prompts = sources.read_file(path)
    if prompts.num_empty:  # images are numbered by prompts
      raise UserError(f'{path} has {prompts.num_empty} empty prompts')
    if len(set(prompts.places)) < len(prompts):
      raise UserError(f'{path} has several prompts in one record')
    found[style] = list(prompts.texts[:limit])
  return found


def numbered(images: FolderImages, style: str, count: int) -> list[int]:
  """Number of the prompt of each image of a style, by `pairs.matched`.

  Args:
    images: images named after the numbers of their prompts.
    style: name of the style.
    count: number of prompts of the style.

  Raises:
    UserError: if an image has no prompt, or two images have the same.
  """
  numbers = [str(number) for number in range(count)]
  return pairs.matched(numbers, images.names, f'{style}.json')


def cosines(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
  """Scores [N] of embeddings [N, E]: cosines times 100."""
  lengths = np.linalg.norm(images, axis=1) * np.linalg.norm(texts, axis=1)
  return _SCALE * (images * texts).sum(1) / lengths


def summarise(scores: np.ndarray) -> tuple[float, float]:
  """(mean, standard deviation) over group means, as in the benchmark."""
  groups = [
    scores[start : start + _GROUP].mean()
    for start in range(0, len(scores), _GROUP)
  ]
  return float(np.mean(groups)), float(np.std(groups))
