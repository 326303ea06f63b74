"""Distances between sets of images, on features; float64 numpy throughout.

Nothing here knows which network made the features: Inception for published
numbers, a stored classifier at laptop scale. Every value is biased by the
number of samples, so rows are comparable at equal counts only, and beside a
real-against-real row, which shows the floor.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

# Entries of one block of squared distances: 32 MB of float64.
_BLOCK_ENTRIES = 2**22
# |x|^2 - 2xy + |y|^2 is exact to a few ulps of |x|^2 + |y|^2 only. Anything
# below this share of it is rounding: duplicates are at distance zero.
_ZERO_DISTANCE = 1e-13


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureStatistics:
  """Mean and covariance of a set of feature vectors.

  Attributes:
    count: number of vectors n.
    mean: float64 [D].
    covariance: float64 [D, D] with divisor n - 1, as in the official FID
      codes; zero while n < 2.
  """

  count: int
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
    features = _as_features(features, 'features', minimum=1)
    mean = features.mean(0)
    centred = features - mean
    covariance = centred.T @ centred / max(len(features) - 1, 1)
    return cls(count=len(features), mean=mean, covariance=covariance)

  def merge(self, other: 'FeatureStatistics') -> 'FeatureStatistics':
    """Statistics of the union of two disjoint sets (Chan et al., 1979).

    Raises:
      ValueError: if the widths differ.
    """
    _check_same_width(self.mean, other.mean)
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
  """Frechet distance of the Gaussians with these moments.

  |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)). The trace of the root is
  that of the symmetric (S_a^(1/2) S_b S_a^(1/2))^(1/2): two eigh, no complex
  numbers, no epsilon on the diagonal, valid with fewer samples than features.
  Agrees with the official sqrtm and eigvals codes to 1e-7.

  Args:
    a: statistics of one set, at least two samples.
    b: statistics of the other set, same width.

  Returns:
    The distance, >= 0; in squared units of the features.

  Raises:
    ValueError: on different widths, too few samples or non-finite moments.
  """
  _check_same_width(a.mean, b.mean)
  for statistics in (a, b):
    if statistics.count < 2:
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class ManifoldMetrics:
  """Support overlap of two sets; see `precision_recall_density_coverage`.

  Attributes:
    precision: share of fakes inside the ball of at least one real, [0, 1].
    recall: share of reals inside the ball of at least one fake, [0, 1].
    density: balls of reals around a fake, over k; about 1 for equal sets.
    coverage: share of reals with a fake inside their own ball, [0, 1].
  """

  precision: float
  recall: float
  density: float
  coverage: float


def precision_recall_density_coverage(
  real: np.ndarray, fake: np.ndarray, k: int = 3
) -> ManifoldMetrics:
  """Precision, recall (Kynkaanniemi 2019), density, coverage (Naeem 2020).

  The ball of a sample reaches to its k-th nearest neighbour within its own
  set, itself not counted, and is open (strict <): the convention of the prdc
  package that Di[M]O reports. A sample with k exact duplicates has an empty
  ball. Memory is bounded by blocks; the time is O((N + M)^2 D).

  Args:
    real: features [N, D], N > k.
    fake: features [M, D], M > k.
    k: neighbour that sets the radius, >= 1.

  Returns:
    The four numbers.

  Raises:
    ValueError: on fewer than k + 1 samples, different widths, non-finite
      features or k < 1.
  """
  if k < 1:
    raise ValueError(f'k must be at least 1, got {k}')
  real = _as_features(real, 'real', minimum=k + 1)
  fake = _as_features(fake, 'fake', minimum=k + 1)
  _check_same_width(real[0], fake[0])
  real_radii = _squared_radii(real, k)
  fake_radii = _squared_radii(fake, k)
  balls_around_fake = np.zeros(len(fake), np.int64)
  recalled = covered = 0
  for rows, squared in _squared_distance_blocks(real, fake):
    inside_real = squared < real_radii[rows, None]  # [block, M]
    balls_around_fake += inside_real.sum(0)
    covered += np.count_nonzero(inside_real.any(1))
    recalled += np.count_nonzero((squared < fake_radii).any(1))
  return ManifoldMetrics(
    precision=float((balls_around_fake > 0).mean()),
    recall=float(recalled / len(real)),
    density=float(balls_around_fake.mean() / k),
    coverage=float(covered / len(real)),
  )


def exact_copy_rate(tokens: np.ndarray, reference_tokens: np.ndarray) -> float:
  """Share of token strings that equal one of the training set.

  Args:
    tokens: int [N, ...], generated; compared as flat strings.
    reference_tokens: int [M, ...], of the training images.

  Returns:
    A share in [0, 1].

  Raises:
    ValueError: on non-integer tokens, no tokens, or different lengths.
  """
  strings = _token_strings(tokens)
  references = _token_strings(reference_tokens)
  if len(strings[0]) != len(references[0]):
    raise ValueError(
      f'token strings differ in shape: {np.shape(tokens)[1:]} and'
      f' {np.shape(reference_tokens)[1:]}'
    )
  known = set(references)
  return sum(string in known for string in strings) / len(strings)


def unique_rate(tokens: np.ndarray) -> float:
  """Number of different token strings over the number of all, in (0, 1].

  Args:
    tokens: int [N, ...]; compared as flat strings.

  Raises:
    ValueError: on non-integer tokens or no tokens.
  """
  strings = _token_strings(tokens)
  return len(set(strings)) / len(strings)


def _as_features(
  features: np.ndarray, name: str, *, minimum: int
) -> np.ndarray:
  """Checked float64 features [N, D]."""
  features = np.asarray(features, np.float64)
  if features.ndim != 2:
    raise ValueError(f'{name} must be [N, D], got shape {features.shape}')
  if len(features) < minimum:
    raise ValueError(
      f'{name} needs at least {minimum} samples, got {len(features)}'
    )
  if not np.isfinite(features).all():
    raise ValueError(f'{name} holds NaN or infinity')
  return features


def _check_same_width(a: np.ndarray, b: np.ndarray) -> None:
  if len(a) != len(b):
    raise ValueError(f'feature widths differ: {len(a)} and {len(b)}')


def _without_rounding(eigenvalues: np.ndarray) -> np.ndarray:
  """Eigenvalues of a semi-definite matrix, those below its rounding at zero.

  A root would otherwise lift noise of 1e-16 in the null space to 1e-8.
  """
  resolution = np.finfo(np.float64).eps * len(eigenvalues)
  noise = resolution * np.abs(eigenvalues).max()
  return np.where(eigenvalues > noise, eigenvalues, 0.0)


def _symmetric_sqrt(matrix: np.ndarray) -> np.ndarray:
  """The symmetric root of a semi-definite matrix [D, D]."""
  eigenvalues, vectors = np.linalg.eigh(matrix)
  return (vectors * np.sqrt(_without_rounding(eigenvalues))) @ vectors.T


def _squared_distance_blocks(
  x: np.ndarray, y: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
  """Yields (rows of x, squared distances [block, M]) with bounded memory."""
  x_norms = np.square(x).sum(1)  # [N]
  y_norms = np.square(y).sum(1)  # [M]
  block = max(_BLOCK_ENTRIES // len(y), 1)
  for start in range(0, len(x), block):
    rows = slice(start, start + block)
    norms = x_norms[rows, None] + y_norms  # [block, M]
    squared = norms - 2 * (x[rows] @ y.T)
    yield rows, np.where(squared > _ZERO_DISTANCE * norms, squared, 0.0)


def _squared_radii(x: np.ndarray, k: int) -> np.ndarray:
  """Squared distance of each row to its k-th neighbour: [N, D] -> [N]."""
  radii = np.empty(len(x))
  for rows, squared in _squared_distance_blocks(x, x):
    # Index 0 of the sorted row is the sample itself, at distance zero.
    radii[rows] = np.partition(squared, k, axis=1)[:, k]
  return radii


def _token_strings(tokens: np.ndarray) -> list[bytes]:
  """Token rows as bytes, comparable whatever their integer type was."""
  tokens = np.asarray(tokens)
  if not np.issubdtype(tokens.dtype, np.integer):
    raise ValueError(f'tokens must be integers, got {tokens.dtype}')
  if tokens.ndim < 2 or tokens.size == 0:
    raise ValueError(f'tokens must be [N, ...] with N > 0, got {tokens.shape}')
  rows = tokens.reshape(len(tokens), -1).astype(np.int64)
  return [row.tobytes() for row in rows]
