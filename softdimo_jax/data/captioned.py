"""In-memory tokens of captioned images, for text-to-image stages."""

import dataclasses
import functools

import jax
import numpy as np

from softdimo_jax.networks.generators.condition import TextCondition
from softdimo_jax.types import Batch


@dataclasses.dataclass(frozen=True)
class CaptionedTokens:
  """N examples; `wrong_*` belong to the scene with one stated thing changed.

  Attributes:
    tokens: int32 [N, L, G].
    prompt_ids: int32 [N, T].
    wrong_tokens: int32 [N, L, G].
    wrong_prompt_ids: int32 [N, T].
  """

  tokens: np.ndarray
  prompt_ids: np.ndarray
  wrong_tokens: np.ndarray
  wrong_prompt_ids: np.ndarray

  def __len__(self) -> int:
    return len(self.tokens)

  @functools.cached_property
  def _unique(self) -> tuple[np.ndarray, np.ndarray]:
    prompt_ids, index = np.unique(self.prompt_ids, axis=0, return_inverse=True)
    return prompt_ids, index.ravel()

  @property
  def unique_prompt_ids(self) -> np.ndarray:
    """Distinct prompt ids int32 [U, T], whose features are computed once."""
    return self._unique[0]

  def gather(self, index: np.ndarray) -> Batch:
    """`tokens`, `prompt_ids` and `wrong_prompt_ids` of examples int [B]."""
    return {
      'tokens': self.tokens[index],
      'prompt_ids': self.prompt_ids[index],
      'wrong_prompt_ids': self.wrong_prompt_ids[index],
    }

  def gather_with_text(
    self, index: np.ndarray, features: TextCondition
  ) -> Batch:
    """`tokens`, `prompt_ids` and `text`, the text features of the captions.

    Args:
      index: int [B], the examples.
      features: text features of `unique_prompt_ids`, as host arrays.
    """
    rows = self._unique[1][index]
    return {
      'tokens': self.tokens[index],
      'prompt_ids': self.prompt_ids[index],
      'text': jax.tree.map(lambda array: array[rows], features),
    }
