"""Random data that replace a cache when weights are synthetic."""

import dataclasses
import functools

import numpy as np

from softdimo_jax.data.cache.prompts import EncodedPrompts
from softdimo_jax.families.family import Family

# Images of a random token cache, and prompts of a random prompt cache.
_IMAGES, _PROMPTS = 1024, 64


def random_tokens(family: Family) -> dict[str, np.ndarray]:
  """Fixed random `tokens` int32 [N, L, G] and `label` int32 [N]."""
  rng = np.random.default_rng(0)
  shape = (_IMAGES, *family.token_shape)
  return {
    'tokens': rng.integers(family.vocab_size, size=shape, dtype=np.int32),
    'label': rng.integers(family.null_label, size=_IMAGES, dtype=np.int32),
  }


@dataclasses.dataclass(frozen=True)
class RandomFeatures:
  """Replaces a prompt cache: fixed random features and numbered prompts."""

  shapes: dict[str, tuple[int, ...]]

  def __len__(self) -> int:
    return _PROMPTS

  @functools.cached_property
  def _features(self) -> dict[str, np.ndarray]:
    return random_features(self.shapes, _PROMPTS, seed=0)

  def gather(self, indices: np.ndarray) -> EncodedPrompts:
    return EncodedPrompts(
      texts=[f'made up prompt {index}' for index in indices],
      ids=np.zeros((len(indices), 0), np.int32),
      features={k: array[indices] for k, array in self._features.items()},
    )


def random_features(
  shapes: dict[str, tuple[int, ...]], count: int, *, seed: int
) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(seed)
  return {
    name: rng.standard_normal((count, *shape), np.float32)
    for name, shape in shapes.items()
  }
