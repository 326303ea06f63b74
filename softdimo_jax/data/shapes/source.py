"""Random access to scenes without end: what index i holds never changes."""

import dataclasses
from typing import SupportsIndex

import numpy as np

from softdimo_jax.data.shapes import vocabulary
from softdimo_jax.data.shapes.scene import Scene, draw, perturb, render
from softdimo_jax.data.shapes.world import World
from softdimo_jax.types import Batch

# Streams of random numbers of one example.
_SCENE, _PERTURBATION = 0, 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShapesSource:
  """Scenes as a data source: `len`, `source[i]`, whole batches at once.

  An example is {'image': float32 [H, W, 3] in [0, 1], 'prompt_ids': int32 [T]}.
  It depends on the seed and its index only, so nothing is stored, and any
  process may make any example. `data.batches.gathered_batches(len(source),
  source.gather, ...)` iterates over it with a position that can be saved.

  Attributes:
    world: sizes.
    seed: sources of different seeds share no stream of random numbers.
    num_examples: N.
    length: T, of the captions.
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
    """Examples [B]: image float32 [B, H, W, 3], caption int32 [B, T]."""
    return self._examples([self.scene(int(index)) for index in indices])

  def gather_pairs(self, indices: np.ndarray) -> Batch:
    """As `gather`, and with `wrong_image` and `wrong_prompt_ids`.

    They are those of the perturbed scenes: the wrong caption is false of the
    image, and the caption of the wrong image.
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
