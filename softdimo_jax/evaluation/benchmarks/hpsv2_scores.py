"""The HPSv2 benchmark (Wu et al. 2023): four styles, 800 prompts of each.

PROMPTS/anime.json, ...          lists of texts
IMAGES/anime/00000.jpg, ...      an image of each
"""

import pathlib
from collections.abc import Sequence

import jax
import numpy as np

from softdimo_jax.data.prompts.files import read_prompts
from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.features.network import ImageNetwork
from softdimo_jax.evaluation.sets.images import FolderImages
from softdimo_jax.rewards.scoring import CLIPReward
from softdimo_jax.types import Params

STYLES = ('anime', 'concept-art', 'paintings', 'photo')
# The spread of a style is that of the means of so many images in a row.
_GROUP = 80
# Scores are cosines in per cent.
_SCALE = 100


def score_embedder(
  reward: CLIPReward, params: Params, batch_size: int = 64
) -> ImageNetwork:
  """The reward's image tower over images of any one size.

  It returns features float32 [B, E], which are not unit vectors.
  """

  def forward(params: Params, pixels: jax.Array) -> tuple[jax.Array, ...]:
    inputs = reward.transform(pixels / 255)
    return (
      reward.module.apply({'params': params}, inputs, method='image_features'),
    )

  return ImageNetwork(
    module=reward.module, params=params, forward=forward, batch_size=batch_size
  )


def style_prompts(
  folder: str, styles: Sequence[str], limit: int | None = None
) -> dict[str, list[str]]:
  """Prompts of every style.

  Args:
    folder: with STYLE.json of each.
    styles: names; the benchmark's are `STYLES`.
    limit: at most so many of each, the first ones.

  Raises:
    UserError: if a file is missing or of another form.
  """
  found = {}
  for style in styles:
    path = pathlib.Path(folder) / f'{style}.json'
    if not path.is_file():
      raise UserError(
        f'{path} is missing; the benchmark has STYLE.json of '
        f'{", ".join(STYLES)}'
      )
    found[style] = read_prompts(path)[:limit]
  return found


def numbered(images: FolderImages) -> list[int]:
  """Numbers of the prompts that the files of a style are of.

  Raises:
    UserError: for a file whose name is no number.
  """
  stems = [pathlib.Path(name).stem for name in images.names]
  wrong = [stem for stem in stems if not stem.isdigit()]
  if wrong:
    raise UserError(f'{wrong[0]} is not named by the number of a prompt')
  return [int(stem) for stem in stems]


def cosines(images: np.ndarray, texts: np.ndarray) -> np.ndarray:
  """Scores [N] of embeddings [N, E]: cosines in per cent."""
  lengths = np.linalg.norm(images, axis=1) * np.linalg.norm(texts, axis=1)
  return _SCALE * (images * texts).sum(1) / lengths


def summarise(scores: np.ndarray) -> tuple[float, float]:
  """(mean, standard deviation) of the means of groups, as the benchmark."""
  groups = [
    scores[start : start + _GROUP].mean()
    for start in range(0, len(scores), _GROUP)
  ]
  return float(np.mean(groups)), float(np.std(groups))
