"""Moments of features in an .npz file, under the names that programs use."""

from collections.abc import Mapping

import numpy as np

from softdimo_jax.evaluation.metrics import FeatureStatistics

# Names of (mean, covariance): ADM, clean-fid, pytorch-fid, EDM and ours; then
# JAX implementations.
POOL_KEYS = (('mu', 'sigma'), ('ref_mu', 'ref_sigma'))
SPATIAL_KEYS = (('mu_s', 'sigma_s'),)
COUNT = 'count'
# Largest asymmetry and negative eigenvalue of a covariance, relative to its
# largest entry: float32 rounds to 1e-7.
_TOLERANCE = 1e-4


def read(
  arrays: Mapping[str, np.ndarray], names: tuple[tuple[str, str], ...]
) -> FeatureStatistics | None:
  """Moments under the first pair of names that occurs in the file.

  Args:
    arrays: of an .npz file.
    names: pairs of the names of mean and covariance.

  Returns:
    Mean [D] and covariance [D, D]; None if no name occurs.

  Raises:
    ValueError: if only one of a pair occurs, or they are not moments.
  """
  for pair in names:
    held = [name for name in pair if name in arrays]
    if len(held) == 1:
      raise ValueError(f'it contains only {held[0]} of {" and ".join(pair)}')
    if held:
      count = int(arrays[COUNT]) if COUNT in arrays else None
      if count is not None and count < 1:
        raise ValueError(f'{COUNT} is {count}, not a number of images')
      mean, covariance = (arrays[name] for name in pair)
      _check_moments(mean, covariance, pair)
      return FeatureStatistics(
        count=count,
        mean=mean.astype(np.float64),
        covariance=covariance.astype(np.float64),
      )
  return None


def _check_moments(
  mean: np.ndarray, covariance: np.ndarray, names: tuple[str, str]
) -> None:
  both = ' and '.join(names)
  if mean.ndim != 1 or covariance.shape != mean.shape * 2:
    raise ValueError(
      f'{both} must be [D] and [D, D], got {mean.shape} and {covariance.shape}'
    )
  if {mean.dtype.kind, covariance.dtype.kind} != {'f'}:
    raise ValueError(
      f'{both} must be float, got {mean.dtype} and {covariance.dtype}'
    )
  if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
    raise ValueError(f'{both} contain NaN or infinity')
  if not _is_covariance(covariance.astype(np.float64)):
    raise ValueError(
      f'{names[1]} is not a covariance: it must be symmetric and positive '
      'semi-definite'
    )


def _is_covariance(matrix: np.ndarray) -> bool:
  """Whether [D, D] is symmetric and semi-definite, up to rounding."""
  allowed = _TOLERANCE * np.abs(matrix).max(initial=0)
  if not allowed:
    return True
  if np.abs(matrix - matrix.T).max() > allowed:
    return False
  try:  # exists just for positive definite matrices, and is fast
    np.linalg.cholesky(matrix + allowed * np.eye(len(matrix)))
  except np.linalg.LinAlgError:
    return False
  return True
