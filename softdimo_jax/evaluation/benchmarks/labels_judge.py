"""Scores generated images of labelled data sets in a fixed feature space.

Frechet distance and k-NN metrics use the penultimate layer of one classifier,
label accuracy uses a second classifier trained with another seed, so the
feature space and the label judge are independent.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import numpy as np

from softdimo_jax.evaluation import metrics
from softdimo_jax.networks.call import call
from softdimo_jax.runtime.batched import Batched
from softdimo_jax.types import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
  """Reference images and the networks that compare images with them.

  Attributes:
    classifier: Linen module that returns `features` and `logits`.
    feature_params: parameters of the feature space.
    label_params: parameters of the label judge.
    images: reference images, float32 [N, H, W, C] in [0, 1].
    tokens: their tokens [N, L, G], for the rate of exact copies.
    batch_size: images per forward pass.
  """

  classifier: nn.Module
  feature_params: Params
  label_params: Params
  images: np.ndarray
  tokens: np.ndarray
  batch_size: int = 512

  def score(
    self, images: np.ndarray, labels: np.ndarray, tokens: np.ndarray
  ) -> dict[str, float]:
    """Quality of generated images.

    Args:
      images: float32 [N, H, W, C] in [0, 1].
      labels: int [N], the requested labels.
      tokens: int [N, L, G], the tokens of the images.

    Returns:
      num_images, fid, precision, recall, density, coverage, accuracy,
      copy_rate, unique_rate. `fid` is 100 times the Frechet distance in this
      judge's feature space; precision, recall, density and coverage use at most
      as many generated images as there are reference images.

    Raises:
      ValueError: for non-finite features or too few images.
    """
    return {
      'num_images': len(images),
      **self.quality(images),
      'accuracy': self.accuracy(images, labels),
      'copy_rate': metrics.exact_copy_rate(tokens, self.tokens),
      'unique_rate': metrics.unique_rate(tokens),
    }

  def quality(self, images: np.ndarray) -> dict[str, float]:
    """fid, precision, recall, density and coverage; see `score`."""
    features, reference = self._features(images), self._reference
    manifold = metrics.precision_recall_density_coverage(
      reference, features[: len(reference)], real_radii=self._radii
    )
    return {'fid': self._distance(features), **dataclasses.asdict(manifold)}

  def accuracy(self, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of images that the label judge assigns their label."""
    logits = self._apply(self.label_params, images).logits
    return float((logits.argmax(-1) == labels).mean())

  def floor(self, seed: int, count: int) -> float:
    """Distance of `count` reference images, drawn with replacement.

    It estimates the score of a perfect generator with this many images.
    """
    rng = np.random.default_rng(seed)
    choice = rng.integers(0, len(self._reference), count)
    return self._distance(self._reference[choice])

  def real_distance(self, images: np.ndarray) -> float:
    """Distance of other real images, e.g. the held-out ones."""
    return self._distance(self._features(images))

  def _distance(self, features: np.ndarray) -> float:
    statistics = metrics.FeatureStatistics.from_features(features)
    return 100 * metrics.frechet_distance(statistics, self._statistics)

  @functools.cached_property
  def _reference(self) -> np.ndarray:
    return self._features(self.images)

  @functools.cached_property
  def _radii(self) -> np.ndarray:
    return metrics.squared_radii(self._reference)

  @functools.cached_property
  def _statistics(self) -> metrics.FeatureStatistics:
    return metrics.FeatureStatistics.from_features(self._reference)

  def _features(self, images: np.ndarray) -> np.ndarray:
    return self._apply(self.feature_params, images).features

  def _apply(self, params: Params, images: np.ndarray) -> Any:
    """Outputs for all images."""
    return self._run(params, images, self.batch_size)

  @functools.cached_property
  def _run(self) -> Batched:
    return Batched(lambda params, images: call(self.classifier, params, images))
