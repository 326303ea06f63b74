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
import types
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from softdimo_jax.evaluation.metrics import FeatureStatistics
from softdimo_jax.networks import inception
from softdimo_jax.networks.inception import Inception
from softdimo_jax.ops.resize import resize_bicubic, resize_bilinear
from softdimo_jax.runtime.batched import BatchedNetwork, Images
from softdimo_jax.types import Params

# An update of a covariance [D, D] costs as much as the products of some
# hundred vectors, so that it waits for so many.
_ROWS = 1024

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
class FeatureExtractor(BatchedNetwork):
  """Runs the network over images.

  Attributes:
    module: the network.
    protocol: how images are resized and scaled, a name in `PROTOCOLS`.

  Raises:
    ValueError: for an unknown protocol or a batch size below 1.
  """

  module: Inception
  protocol: str = 'tensorflow'

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.protocol not in PROTOCOLS:
      raise ValueError(
        f'protocol {self.protocol!r} is unknown; choose one of '
        f'{tuple(PROTOCOLS)}'
      )

  def forward(self, params: Params, pixels: jax.Array) -> tuple[jax.Array, ...]:
    """See `BatchedNetwork`: what `Features` has."""
    inputs = PROTOCOLS[self.protocol](pixels, self.module.resolution)
    output = self.module.apply({'params': params}, inputs, method='features')
    return output.pool, output.spatial, output.logits

  def batches(self, images: Images) -> Iterator[Features]:
    """As `outputs`."""
    for pool, spatial, logits in self.outputs(images):
      yield Features(vectors=pool, spatial=spatial, logits=logits)

  def summarize(
    self, images: Images, *, moments_only: bool = False
  ) -> SetFeatures:
    """Moments and features of a set of images.

    Args:
      images: see `outputs`.
      moments_only: keep no features: 12 kB an image.

    Raises:
      ValueError: as `outputs`, if there are no images, and for features that
        are not finite.
    """
    pool, spatial = Moments(), Moments()
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


class Moments:
  """Float64 statistics of features that arrive in batches.

  They depend on where the batches are cut by rounding alone.
  """

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
