"""Random access to scenes that are functions of seed and index."""

import dataclasses
from typing import SupportsIndex

import numpy as np

from softdimo_jax.data.shapes import vocabulary
from softdimo_jax.data.shapes.scene import Scene, draw, perturb, render
from softdimo_jax.data.shapes.world import World
from softdimo_jax.types import Batch

# Random streams of an example.
_SCENE, _PERTURBATION = 0, 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShapesSource:
  """Scenes as a data source: `len`, `source[i]` and `source.gather(indices)`.

  An example is {'image': float32 [H, W, 3] in [0, 1], 'prompt_ids': int32 [T]}.
  It depends only on the seed and its index, so nothing is stored and any
  process can make any example. `data.batches.gathered_batches(len(source),
  source.gather, ...)` iterates over the source with a saved position.

  Attributes:
    world: sizes.
    seed: sources with different seeds share no random stream.
    num_examples: N.
    length: T, tokens per caption.
  """

  world: World = dataclasses.field(default_factory=World)
  seed: int = 0
  num_examples: int = 32_768
  length: int = vocabulary.MAX_LENGTH

  def __len__(self) -> int:
    return self.num_examples

  def __getitem__(self, index: SupportsIndex) -> Batch:
    batch = self.gather(np.array([index.__index__()]))
    return {name: array[0] for name, array in batch.items()}

  def scene(self, index: int) -> Scene:
    """The scene of an example.

    Raises:
      IndexError: unless 0 <= index < N.
    """
    return draw(self.world, self._rng(index, _SCENE))

  def gather(self, indices: np.ndarray) -> Batch:
    """Examples int [B]: `image` [B, H, W, 3] and `prompt_ids` [B, T]."""
    return self._examples([self.scene(int(index)) for index in indices])

  def gather_pairs(self, indices: np.ndarray) -> Batch:
    """Like `gather`, with `wrong_image` and `wrong_prompt_ids`.

    Both come from the perturbed scene: the wrong caption is false for `image`
    and true for `wrong_image`.
    """
    scenes = [self.scene(int(index)) for index in indices]
    wrong = self._examples(
      [
        self._perturbed(int(index), scene)
        for index, scene in zip(indices, scenes, strict=True)
      ]
    )
    return self._examples(scenes) | {
      f'wrong_{name}': array for name, array in wrong.items()
    }

  def _perturbed(self, index: int, scene: Scene) -> Scene:
    """The scene with one stated thing changed, always the same one."""
    return perturb(self.world, scene, self._rng(index, _PERTURBATION))[0]

  def _examples(self, scenes: list[Scene]) -> Batch:
    captions = [scene.statement.text for scene in scenes]
    return {
      'image': render(self.world, scenes),
      'prompt_ids': vocabulary.tokenize_all(captions, self.length),
    }

  def _rng(self, index: int, stream: int) -> np.random.Generator:
    if not 0 <= index < len(self):
      raise IndexError(f'scene {index} of {len(self)}')
    return np.random.default_rng((self.seed, index, stream))
