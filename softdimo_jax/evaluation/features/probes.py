"""Probes: networks whose features of an image set are stored on disk."""

import concurrent.futures
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softdimo_jax.convert.weights import Weights
from softdimo_jax.data.cache.records import module_fingerprint
from softdimo_jax.evaluation.features.clip import (
  PREPARATIONS,
  Preparation,
  crop_first,
  image_embedder,
)
from softdimo_jax.evaluation.features.inception import feature_extractor
from softdimo_jax.evaluation.features.network import ImageNetwork
from softdimo_jax.evaluation.features.store import FeatureStore
from softdimo_jax.evaluation.sets.images import ImageSet, check_sizes
from softdimo_jax.runtime.preemption import PreemptionNotice
from softdimo_jax.runtime.progress import Progress

# Resize protocols of Inception. 'crop' is text2image-benchmark's: images of any
# size are cropped and resized on the host, then scaled as in 'pytorch'. For the
# others, images must have one size and are resized on the device.
RESIZES = ('tensorflow', 'clean', 'pytorch', 'crop')
_CROP, _CROP_SCALE = 'crop', 'pytorch'
# Largest bytes and images per range; a range is held in memory.
_RANGE_BYTES, _RANGE = 2**27, 500
_THREADS = 8

# Images of a range -> uint8 [N, H, W, 3].
Prepare = Callable[[Sequence[np.ndarray]], np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
  """A feature network and the preparation of its images.

  Attributes:
    network: network on images of one size.
    outputs: names of the network's outputs.
    prepare: combines the images of a range into one array; None stacks them,
      so that all images of a set must have one size.
    fingerprint: JSON values that identify the network and the preparation.
  """

  network: ImageNetwork
  outputs: tuple[str, ...]
  prepare: Prepare | None
  fingerprint: Mapping[str, Any]

  def store(self, root: pathlib.Path, images: ImageSet) -> FeatureStore:
    """Store for the features of a set."""
    fingerprint = {
      'network': dict(self.fingerprint),
      'images': images.fingerprint,
    }
    return FeatureStore(root, fingerprint, len(images), range_of(images.size()))

  def widths(self, size: tuple[int, int]) -> dict[str, int]:
    """Width of every output, for images of size (H, W)."""
    pixels = jax.ShapeDtypeStruct((1, *size, 3), jnp.uint8)
    shapes = jax.eval_shape(self.network.forward, self.network.params, pixels)
    return {
      name: shape.shape[1]
      for name, shape in zip(self.outputs, shapes, strict=True)
    }


def range_of(size: tuple[int, int]) -> int:
  """Number of images per range, for images of size (H, W)."""
  return max(1, min(_RANGE, _RANGE_BYTES // (3 * size[0] * size[1])))


def inception_probe(weights: Weights, resize: str, batch_size: int) -> Probe:
  """Inception features, for FID, sFID, IS, KID, precision and recall.

  Args:
    weights: weights of the family 'inception'.
    resize: name in `RESIZES`.
    batch_size: images per pass.
  """
  params, module = weights.load(), weights.module
  crop = functools.partial(_prepared, crop_first, module.resolution)
  return Probe(
    network=feature_extractor(
      module,
      params,
      protocol=_CROP_SCALE if resize == _CROP else resize,
      batch_size=batch_size,
    ),
    outputs=('vectors', 'spatial', 'logits'),
    prepare=crop if resize == _CROP else None,
    fingerprint=network_fingerprint(weights, params) | {'resize': resize},
  )


def clip_probe(weights: Weights, preparation: str, batch_size: int) -> Probe:
  """Features of a CLIP's image tower, for the CLIP score and CMMD.

  Args:
    weights: weights of the family 'clip'.
    preparation: name in `PREPARATIONS`.
    batch_size: images per pass.
  """
  params, module = weights.load(), weights.module
  prepare, side = PREPARATIONS[preparation], module.image.resolution
  return Probe(
    network=image_embedder(module, params, batch_size),
    outputs=('embeddings',),
    prepare=functools.partial(_prepared, prepare, side),
    fingerprint=network_fingerprint(weights, params)
    | {'preparation': preparation},
  )


def _prepared(
  prepare: Preparation, side: int, images: Sequence[np.ndarray]
) -> np.ndarray:
  """Images of any size -> uint8 [N, side, side, 3], in several threads."""
  with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
    return np.stack(list(pool.map(lambda x: prepare(x, side), images)))


def network_fingerprint(weights: Weights, params: Any) -> dict[str, Any]:
  """JSON values that identify a network with its weights."""
  return {'weights': weights.source} | module_fingerprint(
    weights.module, params
  )


def extract(
  images: ImageSet,
  views: Sequence[tuple[Probe, FeatureStore]],
  notice: PreemptionNotice,
  title: str = 'features',
) -> None:
  """Fills feature stores of a set; every image is read or generated once.

  Args:
    images: image set.
    views: probes with their stores.
    notice: checked between ranges.
    title: title of the progress line.

  Raises:
    Preempted: after a signal; finished ranges are kept.
    UserError: for images that cannot be read or do not fit.
  """
  missing = [set(store.missing()) for _, store in views]
  ranges = sorted(set().union(*missing))
  total = sum(stop - start for start, stop in ranges)
  progress = Progress(title, 0, total, unit='images')
  done, size = 0, images.size()
  for start, stop in ranges:
    notice.check()
    read = images.read(start, stop)
    lacking = [
      view
      for view, gaps in zip(views, missing, strict=True)
      if (start, stop) in gaps
    ]
    for probe, store in lacking:
      if probe.prepare is None:
        check_sizes(images, read, start, size)
      pixels = (probe.prepare or np.stack)(read)
      parts = []
      for part in probe.network.outputs(pixels):
        parts.append(part)
        done += len(part[0]) / len(lacking)
        progress.update(round(done), {})
      arrays = map(np.concatenate, zip(*parts, strict=True))
      store.write(start, dict(zip(probe.outputs, arrays, strict=True)))
