"""Validated features, and their products and distances in blocks."""

from collections.abc import Iterator

import numpy as np

# Entries per block of an [N, M] matrix: 32 MB of float64.
_BLOCK_ENTRIES = 2**22
# |x|^2 - 2xy + |y|^2 is exact only to a few ulps of |x|^2 + |y|^2. Distances
# below this share of that sum are rounding errors of duplicates, hence zero.
_ZERO_DISTANCE = 1e-13

# (rows of x, [block, M] part of the matrix between these rows and y).
Blocks = Iterator[tuple[slice, np.ndarray]]


def as_features(features: np.ndarray, name: str, *, minimum: int) -> np.ndarray:
  """Converts features to float64 and checks them.

  Args:
    features: [N, D] of any real type.
    name: name in error messages.
    minimum: smallest N allowed.

  Returns:
    float64 [N, D].

  Raises:
    ValueError: if they are not [N, D], too few or not finite.
  """
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


def check_same_width(a: np.ndarray, b: np.ndarray) -> None:
  """Raises ValueError if two feature vectors differ in length."""
  if len(a) != len(b):
    raise ValueError(f'feature widths differ: {len(a)} and {len(b)}')


def product_blocks(x: np.ndarray, y: np.ndarray) -> Blocks:
  """Yields inner products of x [N, D] and y [M, D] in blocks."""
  block = max(_BLOCK_ENTRIES // len(y), 1)
  for start in range(0, len(x), block):
    rows = slice(start, start + block)
    yield rows, x[rows] @ y.T


def squared_distance_blocks(x: np.ndarray, y: np.ndarray) -> Blocks:
  """Yields squared distances between x [N, D] and y [M, D] in blocks."""
  x_norms = np.square(x).sum(1)  # [N]
  y_norms = np.square(y).sum(1)  # [M]
  for rows, products in product_blocks(x, y):
    norms = x_norms[rows, None] + y_norms  # [block, M]
    squared = norms - 2 * products
    yield rows, np.where(squared > _ZERO_DISTANCE * norms, squared, 0.0)
