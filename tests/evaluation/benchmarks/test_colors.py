"""Colour names by a CLIP, with towers that see colours by construction."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.evaluation.benchmarks.colors import COLORS, ColorClassifier
from softdimo_jax.evaluation.features.clip import image_embedder
from softdimo_jax.networks.rewards.clip import CLIPImageTower
from softdimo_jax.ops.preprocess import normalize

RGB = {
  'red': (255, 0, 0),
  'orange': (255, 165, 0),
  'yellow': (255, 255, 0),
  'green': (0, 128, 0),
  'blue': (0, 0, 255),
  'purple': (128, 0, 128),
  'pink': (255, 192, 203),
  'brown': (139, 69, 19),
  'black': (0, 0, 0),
  'white': (255, 255, 255),
}


class Eyes(nn.Module):
  """Stands for a CLIP whose features are colours, seen from middle grey."""

  image: CLIPImageTower = CLIPImageTower(resolution=8)

  def image_features(self, images):
    black, white = normalize(jnp.zeros(3)), normalize(jnp.ones(3))
    pixels = (images - black) / (white - black)
    return pixels.mean((1, 2)) - 0.5

  def text_features(self, ids):
    """Of ids [N, 4]: a colour, and the length of its feature."""
    return (ids[:, :3] / 255 - 0.5) * ids[:, 3:]


@dataclasses.dataclass
class Words:
  """Prompts as `Eyes` reads them, and all that were asked for."""

  seen: list[str] = dataclasses.field(default_factory=list)
  # What an odd template says instead of a colour, and how loudly.
  instead: tuple[str, str, int] = ('', '', 1)

  def __call__(self, texts):
    self.seen += texts
    return np.array([self._ids(text) for text in texts])

  def _ids(self, text):
    (color,) = (name for name in COLORS if f' {name}' in text)
    name, other, length = self.instead
    if color == name and text.endswith('object'):
      return (*RGB[other], length)
    return (*RGB[color], 1)


def classifier(words):
  embedder = image_embedder(Eyes(), {}, batch_size=4)
  return ColorClassifier(embedder, words)


def crops(size=(9, 12)):
  return [np.full((*size, 3), RGB[name], np.uint8) for name in COLORS]


@pytest.mark.parametrize('size', [(9, 12), (8, 8), (3, 40)])
def test_crops_of_one_colour_are_named(size):
  assert classifier(Words())('cup', crops(size)) == list(COLORS)


def test_the_prompts_are_the_published_ones():
  words = Words()
  classifier(words)('cup', crops()[:1])
  assert words.seen[:3] == [
    'a photo of a red cup',
    'a photo of a red-colored cup',
    'a photo of a red object',
  ]
  assert len(words.seen) == 3 * len(COLORS)


def test_a_crop_without_pixels_has_no_colour():
  red, *_ = crops()
  nothing = np.zeros((0, 5, 3), np.uint8)
  found = classifier(Words())('cup', [nothing, red, nothing])
  assert found == ['', 'red', '']
  assert classifier(Words())('cup', [nothing]) == ['']


def test_templates_count_alike_whatever_the_length_of_their_feature():
  words = Words(instead=('red', 'blue', 100))
  assert classifier(words)('cup', crops()[:1]) == ['red']
