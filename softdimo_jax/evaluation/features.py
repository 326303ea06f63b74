"""Images -> what `metrics` read of them, in the Inception network of FID.

module, params = folder.load_converted(path, 'inception')
extract = FeatureExtractor(module=module, params=params)
ours = extract.summarize(batches)
metrics.frechet_distance(ours.pool, reference.pool)         # FID
metrics.frechet_distance(ours.spatial, reference.spatial)   # sFID
metrics.inception_score(ours.logits)
metrics.precision_recall(theirs.vectors, ours.vectors)
"""

import dataclasses
import functools
import types
from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from softdimo_jax.evaluation.images import to_uint8
from softdimo_jax.evaluation.metrics import FeatureStatistics
from softdimo_jax.method.resize import resize_bicubic, resize_bilinear
from softdimo_jax.networks import inception
from softdimo_jax.networks.inception import Inception
from softdimo_jax.training import sharding
from softdimo_jax.training.state import Params

# An update of a covariance [D, D] costs as much as the products of some
# hundred vectors, so that it waits for so many.
_ROWS = 1024

# uint8 or float [N, H, W, 3]: all images at once, or in batches.
Images = np.ndarray | Iterable[np.ndarray]
# (uint8 [B, H, W, 3], side) -> float32 [B, side, side, 3], the network's input.
Protocol = Callable[[jax.Array, int], jax.Array]


def _clean(images: jax.Array, side: int) -> jax.Array:
  pixels = jnp.clip(resize_bicubic(images, side, side), 0, 255)
  return inception.scaled(pixels)


def _pytorch(images: jax.Array, side: int) -> jax.Array:
  return 2 * (resize_bilinear(images, side, side) / 255) - 1


# Numbers of different protocols are not comparable. The last one scales as
# text2image-benchmark does, too, which crops and resizes files beforehand.
PROTOCOLS: Mapping[str, Protocol] = types.MappingProxyType(
  {
    'tensorflow': inception.prepare,  # ADM, EDM, torch-fidelity, StyleGAN
    'clean': _clean,  # clean-fid
    'pytorch': _pytorch,  # pytorch-fid
  }
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features:
  """Features of N images, as they come out of the network.

  Attributes:
    vectors: float32 [N, D], pooled: precision and recall, KID.
    spatial: float32 [N, E], beginning of a map.
    logits: float32 [N, K], without bias: the Inception score.
  """

  vectors: np.ndarray
  spatial: np.ndarray
  logits: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetFeatures:
  """What metrics read of a set of N images.

  Attributes:
    pool: moments of the pooled features, for FID; `pool.count` is N.
    spatial: moments of the spatial features, for sFID.
    vectors: float32 [N, D], pooled features; None if only moments were wanted.
    logits: float32 [N, K], without bias; likewise.
  """

  pool: FeatureStatistics
  spatial: FeatureStatistics
  vectors: np.ndarray | None = None
  logits: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureExtractor:
  """Runs the network over images, in batches of one compiled size.

  Batches are split over all devices of a single process.

  Attributes:
    module: the network.
    params: of the network.
    batch_size: images of a pass, rounded up to the devices; the last batch is
      padded.
    protocol: how images are resized and scaled, a name in `PROTOCOLS`.

  Raises:
    ValueError: for an unknown protocol or a batch size below 1.
  """

  module: Inception
  params: Params
  batch_size: int = 64
  protocol: str = 'tensorflow'

  def __post_init__(self) -> None:
    if self.protocol not in PROTOCOLS:
      raise ValueError(
        f'protocol {self.protocol!r} is unknown; choose one of '
        f'{tuple(PROTOCOLS)}'
      )
    if self.batch_size < 1:
      raise ValueError(f'batch_size must be at least 1, got {self.batch_size}')
    devices = jax.device_count()
    size = -(-self.batch_size // devices) * devices
    object.__setattr__(self, 'batch_size', size)

  def batches(self, images: Images) -> Iterator[Features]:
    """Yields features in the order of the images, batch by batch.

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

  def summarize(
    self, images: Images, *, moments_only: bool = False
  ) -> SetFeatures:
    """Moments and features of a set of images.

    Args:
      images: see `batches`.
      moments_only: keep no features: 12 kB an image.

    Raises:
      ValueError: as `batches`, if there are no images, and for features that
        are not finite.
    """
    pool, spatial = _Moments(), _Moments()
    vectors, logits = [], []
    for features in self.batches(images):
      pool.add(features.vectors)
      spatial.add(features.spatial)
      if not moments_only:
        vectors.append(features.vectors)
        logits.append(features.logits)
    return SetFeatures(
      pool=pool.result(),
      spatial=spatial.result(),
      vectors=np.concatenate(vectors) if vectors else None,
      logits=np.concatenate(logits) if logits else None,
    )

  def _start(self, pixels: np.ndarray) -> tuple[jax.Array, ...]:
    """Dispatches a batch, filled up to the compiled size."""
    padding = [(0, self.batch_size - len(pixels))] + [(0, 0)] * 3
    batch = sharding.put_batch(np.pad(pixels, padding), self._mesh)
    with jax.set_mesh(self._mesh):
      return self._compiled(self._placed, batch)

  @functools.cached_property
  def _mesh(self) -> jax.sharding.Mesh:
    return sharding.local_mesh()

  @functools.cached_property
  def _placed(self) -> Params:
    return sharding.put_replicated(self.params, self._mesh)

  @functools.cached_property
  def _compiled(self) -> Callable[..., tuple[jax.Array, ...]]:
    run = functools.partial(_run, self.module, PROTOCOLS[self.protocol])
    return jax.jit(run)


def _run(
  module: Inception, protocol: Protocol, params: Params, pixels: jax.Array
) -> tuple[jax.Array, ...]:
  inputs = protocol(pixels, module.resolution)
  output = module.apply({'params': params}, inputs, method='features')
  return output.pool, output.spatial, output.logits


def _fetched(count: int, outputs: tuple[jax.Array, ...]) -> Features:
  """Features on the host, those of `count` images without the padding."""
  pool, spatial, logits = (x[:count] for x in jax.device_get(outputs))
  return Features(vectors=pool, spatial=spatial, logits=logits)


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


class _Moments:
  """Float64 statistics of features that arrive in batches."""

  def __init__(self) -> None:
    self._waiting: list[np.ndarray] = []
    self._statistics: FeatureStatistics | None = None

  def add(self, features: np.ndarray) -> None:
    """Takes float [N, D], N >= 1."""
    self._waiting.append(features)
    if sum(map(len, self._waiting)) >= _ROWS:
      self._update()

  def result(self) -> FeatureStatistics:
    """Statistics of everything so far.

    Raises:
      ValueError: if that is nothing.
    """
    if self._waiting:
      self._update()
    if self._statistics is None:
      raise ValueError('there are no images')
    return self._statistics

  def _update(self) -> None:
    features = np.concatenate(self._waiting)
    if self._statistics is None:
      self._statistics = FeatureStatistics.empty(features.shape[1])
    self._statistics = self._statistics.update(features)
    self._waiting = []
