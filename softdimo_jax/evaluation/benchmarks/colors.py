"""Classifies the colours of objects with CLIP, as GenEval does."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np

from softdimo_jax.data.images import pixels
from softdimo_jax.evaluation.features.clip import embed_prompts
from softdimo_jax.evaluation.features.network import ImageNetwork, Images

COLORS = (
  *('red', 'orange', 'yellow', 'green', 'blue'),
  *('purple', 'pink', 'brown', 'black', 'white'),
)
# Prompts for a class of objects in a colour.
_TEMPLATES = (
  'a photo of a {color} {name}',
  'a photo of a {color}-colored {name}',
  'a photo of a {color} object',
)


@dataclasses.dataclass(frozen=True)
class ColorClassifier:
  """Zero-shot classifier; the mean over its templates represents a colour.

  Attributes:
    embedder: embeds the crops; GenEval uses OpenAI's ViT-L/14.
    tokenize: prompts -> int [N, T].
  """

  embedder: ImageNetwork
  tokenize: Callable[[Sequence[str]], np.ndarray]

  def __call__(self, name: str, crops: Sequence[np.ndarray]) -> list[str]:
    """Names the colours of objects.

    Args:
      name: class of the objects.
      crops: uint8 [h, w, 3] each; an empty crop has the colour ''.

    Returns:
      One of `COLORS`, or '', per crop.
    """
    visible = [crop for crop in crops if crop.size]
    if not visible:
      return [''] * len(crops)
    side = self.embedder.module.image.resolution
    squares = np.stack([pixels.square(crop, side) for crop in visible])
    images = _unit(self._image_features(squares))
    best = iter((images @ self._text(name).T).argmax(1))
    return [COLORS[next(best)] if crop.size else '' for crop in crops]

  @functools.cached_property
  def _text(self) -> Callable[[str], np.ndarray]:
    return functools.cache(self._text_features)

  def _image_features(self, images: Images) -> np.ndarray:
    return np.concatenate([x for (x,) in self.embedder.outputs(images)])

  def _text_features(self, name: str) -> np.ndarray:
    """Unit vectors [colours, E] for a class."""
    texts = [
      template.format(color=color, name=name)
      for color in COLORS
      for template in _TEMPLATES
    ]
    embedder = self.embedder
    found = embed_prompts(
      embedder.module, jax.device_get(embedder.params), self.tokenize(texts)
    )
    each = _unit(found).reshape(len(COLORS), len(_TEMPLATES), -1)
    return _unit(each.mean(1))


def _unit(x: np.ndarray) -> np.ndarray:
  return x / np.linalg.norm(x, axis=-1, keepdims=True)
