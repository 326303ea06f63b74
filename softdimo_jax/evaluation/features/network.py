"""A network applied to an image set, in batches of one compiled size."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from softdimo_jax.evaluation.sets.pictures import to_uint8
from softdimo_jax.runtime.batched import Batched, split_size
from softdimo_jax.types import Params

# uint8 or float [N, H, W, 3]: all images at once, or in batches.
Images = np.ndarray | Iterable[np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageNetwork:
  """A module with its parameters and pixel preprocessing.

  Attributes:
    module: the network.
    params: its parameters.
    forward: (params, uint8 [B, H, W, 3]) -> outputs [B, ...]; runs under jit.
    batch_size: images per pass, rounded up to this process's devices.

  Raises:
    ValueError: for a batch size below 1.
  """

  module: nn.Module
  params: Params
  forward: Callable[[Params, jax.Array], tuple[jax.Array, ...]]
  batch_size: int = 64

  def __post_init__(self) -> None:
    object.__setattr__(self, 'batch_size', split_size(self.batch_size))

  def outputs(self, images: Images) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields outputs in the order of the images, batch by batch.

    Args:
      images: [N, H, W, 3], or an iterable of such batches of any length; uint8,
        or float in [0, 1], which is rounded as in image files (`to_uint8`).

    Raises:
      ValueError: for another shape or type, for NaN, or for images that differ
        in size.
    """
    batches = _rebatched(images, self.batch_size)
    yield from self._run.stream(self._placed, batches, self.batch_size)

  @functools.cached_property
  def _run(self) -> Batched:
    return Batched(self.forward)

  @functools.cached_property
  def _placed(self) -> Params:
    return self._run.place(self.params)


def _rebatched(images: Images, size: int) -> Iterator[np.ndarray]:
  """Yields uint8 [size, H, W, 3]; the last batch may be shorter."""
  batches: Iterable[Any] = images
  if isinstance(images, np.ndarray | jax.Array):
    starts = range(0, len(images), size)
    batches = (images[start : start + size] for start in starts)
  waiting = None
  for batch in map(_pixels, batches):
    if waiting is None:
      waiting = batch
    elif waiting.shape[1:] == batch.shape[1:]:
      waiting = np.concatenate([waiting, batch])
    else:
      raise ValueError(
        f'images of one set differ in size: {waiting.shape[1:3]} and '
        f'{batch.shape[1:3]}'
      )
    while len(waiting) >= size:
      yield waiting[:size]
      waiting = waiting[size:]
  if waiting is not None and len(waiting):
    yield waiting


def _pixels(images: np.ndarray) -> np.ndarray:
  """Images as uint8 [N, H, W, 3]; checks shape and values."""
  images = np.asarray(images)
  if images.ndim != 4 or images.shape[-1] != 3:
    raise ValueError(f'images must be [N, H, W, 3], got shape {images.shape}')
  return images if images.dtype == np.uint8 else to_uint8(images)
