"""Features of FID's Inception network, and their moments."""

import types
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from softdimo_jax.evaluation.features.network import ImageNetwork
from softdimo_jax.evaluation.metrics import FeatureStatistics
from softdimo_jax.networks import inception
from softdimo_jax.networks.call import call
from softdimo_jax.networks.inception import Inception
from softdimo_jax.ops.resize import resize_bicubic, resize_bilinear
from softdimo_jax.types import Params

# Features per update of the moments. An update of a [D, D] covariance costs as
# much as the outer products of some hundred vectors, so they are collected.
_ROWS = 1024

# (uint8 [B, H, W, 3], side) -> float32 [B, side, side, 3], the network's input.
Protocol = Callable[[jax.Array, int], jax.Array]


def _clean(images: jax.Array, side: int) -> jax.Array:
  pixels = jnp.clip(resize_bicubic(images, side, side), 0, 255)
  return inception.scaled(pixels)


def _pytorch(images: jax.Array, side: int) -> jax.Array:
  return 2 * (resize_bilinear(images, side, side) / 255) - 1


# Metrics of different protocols are not comparable. text2image-benchmark, which
# crops and resizes files beforehand, scales pixels as in the last one.
PROTOCOLS: Mapping[str, Protocol] = types.MappingProxyType(
  {
    'tensorflow': inception.prepare,  # ADM, EDM, torch-fidelity, StyleGAN
    'clean': _clean,  # clean-fid
    'pytorch': _pytorch,  # pytorch-fid
  }
)


def feature_extractor(
  module: Inception,
  params: Params,
  *,
  protocol: str = 'tensorflow',
  batch_size: int = 64,
) -> ImageNetwork:
  """The network, returning pooled features, spatial features and logits.

  Pooled features are float32 [B, D], for FID, KID, precision and recall.
  Spatial features are float32 [B, E], the first channels of a feature map, for
  sFID. Logits are float32 [B, K], without bias, for the Inception score.

  Args:
    module: Inception network.
    params: its parameters.
    protocol: name in `PROTOCOLS`: how images are resized and scaled.
    batch_size: images per pass, rounded up to the devices.

  Raises:
    ValueError: for an unknown protocol or a batch size below 1.
  """
  if protocol not in PROTOCOLS:
    raise ValueError(
      f'protocol {protocol!r} is unknown; choose one of {tuple(PROTOCOLS)}'
    )

  def forward(params: Params, pixels: jax.Array) -> tuple[jax.Array, ...]:
    inputs = PROTOCOLS[protocol](pixels, module.resolution)
    output = call(module, params, inputs, method='features')
    return output.pool, output.spatial, output.logits

  return ImageNetwork(
    module=module, params=params, forward=forward, batch_size=batch_size
  )


class Moments:
  """Float64 statistics of features that arrive in batches.

  The batch sizes change the result by rounding only.
  """

  def __init__(self) -> None:
    self._waiting: list[np.ndarray] = []
    self._statistics: FeatureStatistics | None = None

  def add(self, features: np.ndarray) -> None:
    """Adds float [N, D], N >= 1."""
    self._waiting.append(features)
    if sum(map(len, self._waiting)) >= _ROWS:
      self._update()

  def result(self) -> FeatureStatistics:
    """Statistics of all features added so far.

    Raises:
      ValueError: if there are none.
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
