"""Moments of features and the Frechet distance."""

import dataclasses

import numpy as np

from softdimo_jax.evaluation.metrics.features import (
  as_features,
  check_same_width,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureStatistics:
  """Mean and covariance of a set of feature vectors.

  Attributes:
    count: number of vectors n; None if a file of statistics does not state it.
    mean: float64 [D].
    covariance: float64 [D, D] with divisor n - 1, as in the official FID code;
      zero while n < 2.
  """

  count: int | None
  mean: np.ndarray
  covariance: np.ndarray

  @classmethod
  def empty(cls, width: int) -> 'FeatureStatistics':
    """The neutral element of `merge` for features of `width` D."""
    return cls(
      count=0, mean=np.zeros(width), covariance=np.zeros((width, width))
    )

  @classmethod
  def from_features(cls, features: np.ndarray) -> 'FeatureStatistics':
    """Statistics of features [N, D], N >= 1.

    Raises:
      ValueError: if they are not [N, D], empty or not finite.
    """
    features = as_features(features, 'features', minimum=1)
    mean = features.mean(0)
    centred = features - mean
    covariance = centred.T @ centred / max(len(features) - 1, 1)
    return cls(count=len(features), mean=mean, covariance=covariance)

  def merge(self, other: 'FeatureStatistics') -> 'FeatureStatistics':
    """Statistics of the union of two disjoint sets (Chan et al., 1979).

    Raises:
      ValueError: if the widths differ or a count is unknown.
    """
    check_same_width(self.mean, other.mean)
    if self.count is None or other.count is None:
      raise ValueError('statistics of unknown count cannot be merged')
    count = self.count + other.count
    if count == 0:
      return self
    shift = other.mean - self.mean
    scatter = (
      max(self.count - 1, 0) * self.covariance
      + max(other.count - 1, 0) * other.covariance
      + np.outer(shift, shift) * (self.count * other.count / count)
    )
    return FeatureStatistics(
      count=count,
      mean=self.mean + shift * (other.count / count),
      covariance=scatter / max(count - 1, 1),
    )

  def update(self, features: np.ndarray) -> 'FeatureStatistics':
    """Statistics after one more batch of features [N, D]."""
    return self.merge(FeatureStatistics.from_features(features))


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
  """Frechet distance between the Gaussians with these moments.

  |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)). The root has the trace of
  the symmetric (S_a^(1/2) S_b S_a^(1/2))^(1/2), which takes two calls of eigh
  and neither complex numbers nor an epsilon on the diagonal, and is valid with
  fewer samples than features. Agrees with the official sqrtm and eigvals
  implementations to 1e-7.

  Args:
    a: statistics of one set, at least two samples.
    b: statistics of the other set, same width.

  Returns:
    The distance, >= 0, in squared units of the features.

  Raises:
    ValueError: on different widths, too few samples or non-finite moments.
  """
  check_same_width(a.mean, b.mean)
  for statistics in (a, b):
    if statistics.count is not None and statistics.count < 2:
      raise ValueError(
        f'a covariance needs at least 2 samples, got {statistics.count}'
      )
    if not (
      np.isfinite(statistics.mean).all()
      and np.isfinite(statistics.covariance).all()
    ):
      raise ValueError('feature statistics hold NaN or infinity')
  root = _symmetric_sqrt(a.covariance)
  eigenvalues = np.linalg.eigvalsh(root @ b.covariance @ root)
  trace_of_root = np.sqrt(_without_rounding(eigenvalues)).sum()
  distance = (
    np.square(a.mean - b.mean).sum()
    + np.trace(a.covariance)
    + np.trace(b.covariance)
    - 2 * trace_of_root
  )
  return max(float(distance), 0.0)


def _without_rounding(eigenvalues: np.ndarray) -> np.ndarray:
  """Sets eigenvalues below a semi-definite matrix's rounding error to zero.

  The square root would otherwise amplify null-space noise from 1e-16 to 1e-8.
  """
  resolution = np.finfo(np.float64).eps * len(eigenvalues)
  noise = resolution * np.abs(eigenvalues).max()
  return np.where(eigenvalues > noise, eigenvalues, 0.0)


def _symmetric_sqrt(matrix: np.ndarray) -> np.ndarray:
  """Symmetric square root of a semi-definite matrix [D, D]."""
  eigenvalues, vectors = np.linalg.eigh(matrix)
  return (vectors * np.sqrt(_without_rounding(eigenvalues))) @ vectors.T
