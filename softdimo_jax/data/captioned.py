"""Tokens of captioned images in memory, for text-to-image stages."""

import dataclasses
import functools

import jax
import numpy as np

from softdimo_jax.data.batches import Batch
from softdimo_jax.networks.generators.condition import TextCondition


@dataclasses.dataclass(frozen=True)
class CaptionedTokens:
  """N examples; `wrong` is of the scene with one stated thing changed.

  Attributes:
    tokens: int32 [N, L, G].
    captions: int32 [N, T].
    wrong_tokens: int32 [N, L, G].
    wrong_captions: int32 [N, T].
  """

  tokens: np.ndarray
  captions: np.ndarray
  wrong_tokens: np.ndarray
  wrong_captions: np.ndarray

  def __len__(self) -> int:
    return len(self.tokens)

  @functools.cached_property
  def _unique(self) -> tuple[np.ndarray, np.ndarray]:
    captions, index = np.unique(self.captions, axis=0, return_inverse=True)
    return captions, index.ravel()

  @property
  def unique_captions(self) -> np.ndarray:
    """int32 [U, T]; their text features are computed once."""
    return self._unique[0]

  def gather(self, index: np.ndarray) -> Batch:
    """`tokens`, `caption` and `wrong_caption` of examples [B]."""
    return {
      'tokens': self.tokens[index],
      'caption': self.captions[index],
      'wrong_caption': self.wrong_captions[index],
    }

  def gather_with_text(
    self, index: np.ndarray, features: TextCondition
  ) -> Batch:
    """`tokens`, `caption` and `text`, the features of the captions.

    Args:
      index: int [B].
      features: host arrays of the unique captions.
    """
    rows = self._unique[1][index]
    return {
      'tokens': self.tokens[index],
      'caption': self.captions[index],
      'text': jax.tree.map(lambda array: array[rows], features),
    }
