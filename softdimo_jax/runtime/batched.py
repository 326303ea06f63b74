"""A network over a set of images, in batches of one compiled size."""

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np

from softdimo_jax.evaluation.sets.pictures import to_uint8
from softdimo_jax.runtime import sharding
from softdimo_jax.types import Params

# uint8 or float [N, H, W, 3]: all images at once, or in batches.
Images = np.ndarray | Iterable[np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchedNetwork(abc.ABC):
  """Batches are split over all devices of a single process.

  Attributes:
    params: of the network.
    batch_size: images of a pass, rounded up to the devices; the last batch is
      padded.

  Raises:
    ValueError: for a batch size below 1.
  """

  params: Params
  batch_size: int = 64

  def __post_init__(self) -> None:
    if self.batch_size < 1:
      raise ValueError(f'batch_size must be at least 1, got {self.batch_size}')
    devices = jax.device_count()
    size = -(-self.batch_size // devices) * devices
    object.__setattr__(self, 'batch_size', size)

  @abc.abstractmethod
  def forward(self, params: Params, pixels: jax.Array) -> tuple[jax.Array, ...]:
    """Outputs [B, ...] of uint8 [B, H, W, 3]; runs under jit."""

  def outputs(self, images: Images) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields outputs in the order of the images, batch by batch.

    Args:
      images: [N, H, W, 3], or batches of such, of any number of images. uint8,
        or float in [0, 1], which are rounded as in files (`to_uint8`).

    Raises:
      ValueError: for another shape or type, for NaN, and if images differ in
        size.
    """
    running = None
    for pixels in _rebatched(images, self.batch_size):
      started = len(pixels), self._start(pixels)
      # The devices work on this batch while the host reads the last one.
      if running is not None:
        yield _fetched(*running)
      running = started
    if running is not None:
      yield _fetched(*running)

  def _start(self, pixels: np.ndarray) -> tuple[jax.Array, ...]:
    """Dispatches a batch, filled up to the compiled size."""
    padding = [(0, self.batch_size - len(pixels))] + [(0, 0)] * 3
    batch = sharding.put_batch(np.pad(pixels, padding), self._mesh)
    with jax.set_mesh(self._mesh):
      return self._compiled(self._placed, batch)

  @functools.cached_property
  def _mesh(self) -> jax.sharding.Mesh:
    return sharding.make_mesh()

  @functools.cached_property
  def _placed(self) -> Params:
    return sharding.put_replicated(self.params, self._mesh)

  @functools.cached_property
  def _compiled(self) -> Callable[..., tuple[jax.Array, ...]]:
    return jax.jit(self.forward)


def _fetched(
  count: int, outputs: tuple[jax.Array, ...]
) -> tuple[np.ndarray, ...]:
  """Outputs on the host, those of `count` images without the padding."""
  return tuple(x[:count] for x in jax.device_get(outputs))


def _rebatched(images: Images, size: int) -> Iterator[np.ndarray]:
  """Yields uint8 [size, H, W, 3]; the last one may be shorter, not empty."""
  if isinstance(images, np.ndarray | jax.Array):
    starts = range(0, len(images), size)
    batches = (images[start : start + size] for start in starts)
  else:
    batches = images
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
  """Checked uint8 [N, H, W, 3]."""
  images = np.asarray(images)
  if images.ndim != 4 or images.shape[-1] != 3:
    raise ValueError(f'images must be [N, H, W, 3], got shape {images.shape}')
  return images if images.dtype == np.uint8 else to_uint8(images)
