"""Kernel distances KID and CMMD, and the mean cosine known as CLIP score."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from softdimo_jax.evaluation.metrics.features import (
  Blocks,
  as_features,
  check_same_width,
  product_blocks,
  squared_distance_blocks,
)

# CMMD (Jayasumana et al., 2024): sigma of the Gaussian kernel, and the factor
# that brings the distance to the magnitude of an FID.
_CMMD_SIGMA, _CMMD_SCALE = 10.0, 1000.0
# Tolerance on the length of normalised float32 or bfloat16 rows.
_UNIT_TOLERANCE = 1e-2

KernelBlocks = Callable[[np.ndarray, np.ndarray], Blocks]


@dataclasses.dataclass(frozen=True, kw_only=True)
class KernelDistance:
  """Mean and standard deviation (divisor n) over subsets; see `kid`."""

  mean: float
  std: float


def kid(
  real: np.ndarray,
  fake: np.ndarray,
  *,
  subsets: int = 100,
  subset_size: int = 1000,
  seed: int = 2020,
) -> KernelDistance:
  """Kernel Inception distance (Binkowski et al., 2018).

  Defaults and random draws match torch-fidelity; clean-fid draws the same way
  from numpy's global generator. Both compute in float32 and agree to 1e-6.

  Args:
    real: features [N, D].
    fake: features [M, D].
    subsets: number of subset pairs to average, >= 1.
    subset_size: samples per subset, drawn without replacement, >= 2.
    seed: seed of the draws.

  Returns:
    The unbiased squared distance, which may be negative; not multiplied by
    1000.

  Raises:
    ValueError: on fewer samples than `subset_size`, different widths,
      non-finite features, or sizes out of range.
  """
  if subsets < 1 or subset_size < 2:
    raise ValueError(
      'KID needs at least 1 subset of at least 2 samples, got '
      f'{subsets} of {subset_size}'
    )
  real = as_features(real, 'real', minimum=subset_size)
  fake = as_features(fake, 'fake', minimum=subset_size)
  draws = kid_subsets(
    len(real), len(fake), subsets=subsets, subset_size=subset_size, seed=seed
  )
  distances = [polynomial_mmd(real[r], fake[f]) for r, f in draws]
  return KernelDistance(
    mean=float(np.mean(distances)), std=float(np.std(distances))
  )


def kid_subsets(
  num_real: int, num_fake: int, *, subsets: int, subset_size: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields (real, fake) indices of each subset, int [subset_size] each.

  As in torch-fidelity, numpy's legacy generator draws the fakes first.
  """
  rng = np.random.RandomState(seed)
  for _ in range(subsets):
    fake = rng.choice(num_fake, subset_size, replace=False)
    yield rng.choice(num_real, subset_size, replace=False), fake


def polynomial_mmd(real: np.ndarray, fake: np.ndarray) -> float:
  """Unbiased squared MMD of all samples with kernel (x.y / D + 1)^3.

  Equals KID with a single subset that contains all samples.

  Args:
    real: features [N, D], N >= 2.
    fake: features [M, D], M >= 2.

  Raises:
    ValueError: on too few samples, different widths or non-finite features.
  """
  real = as_features(real, 'real', minimum=2)
  fake = as_features(fake, 'fake', minimum=2)
  check_same_width(real[0], fake[0])
  return (
    _mean_of_pairs(real)
    + _mean_of_pairs(fake)
    - 2 * _mean(_polynomial_blocks, real, fake)
  )


def cmmd(real: np.ndarray, fake: np.ndarray) -> float:
  """CLIP maximum mean discrepancy (Jayasumana et al., 2024).

  The biased squared MMD (diagonal included) with a Gaussian kernel of sigma 10,
  times 1000, as in the paper's code.

  Args:
    real: L2-normalised image embeddings [N, D], N >= 1; published values use
      OpenAI's ViT-L/14-336.
    fake: likewise [M, D], M >= 1.

  Returns:
    A distance >= 0, up to rounding.

  Raises:
    ValueError: on no samples, different widths, or embeddings that are not
      finite or not normalised.
  """
  real, fake = _as_unit(real, 'real'), _as_unit(fake, 'fake')
  check_same_width(real[0], fake[0])
  within = _mean(_gaussian_blocks, real, real)
  within += _mean(_gaussian_blocks, fake, fake)
  return _CMMD_SCALE * (within - 2 * _mean(_gaussian_blocks, real, fake))


def clip_score(images: np.ndarray, texts: np.ndarray) -> float:
  """Mean cosine between images and their own captions.

  Neither multiplied by 100 nor clipped at zero, as reported by Di[M]O.

  Args:
    images: image embeddings [N, D], N >= 1, normalised or not.
    texts: text embeddings [N, D] in the same order.

  Returns:
    The mean, in [-1, 1].

  Raises:
    ValueError: on different shapes, or on no, zero or non-finite embeddings.
  """
  images = as_features(images, 'images', minimum=1)
  texts = as_features(texts, 'texts', minimum=1)
  if images.shape != texts.shape:
    raise ValueError(
      f'images and texts must have one shape: {images.shape} and {texts.shape}'
    )
  lengths = np.linalg.norm(images, axis=1) * np.linalg.norm(texts, axis=1)
  if not lengths.all():
    raise ValueError('embeddings of length zero have no cosine')
  return float(((images * texts).sum(1) / lengths).mean())


def _as_unit(embeddings: np.ndarray, name: str) -> np.ndarray:
  embeddings = as_features(embeddings, name, minimum=1)
  lengths = np.linalg.norm(embeddings, axis=1)
  if np.abs(lengths - 1).max() > _UNIT_TOLERANCE:
    raise ValueError(
      f'{name} must be L2-normalised, got lengths from {lengths.min():.3g} to'
      f' {lengths.max():.3g}'
    )
  return embeddings


def _polynomial(products: np.ndarray, width: int) -> np.ndarray:
  return (products / width + 1) ** 3


def _polynomial_blocks(x: np.ndarray, y: np.ndarray) -> Blocks:
  for rows, products in product_blocks(x, y):
    yield rows, _polynomial(products, x.shape[1])


def _gaussian_blocks(x: np.ndarray, y: np.ndarray) -> Blocks:
  for rows, squared in squared_distance_blocks(x, y):
    yield rows, np.exp(squared / (-2 * _CMMD_SIGMA**2))


def _total(blocks: KernelBlocks, x: np.ndarray, y: np.ndarray) -> float:
  return float(sum(kernel.sum() for _, kernel in blocks(x, y)))


def _mean(blocks: KernelBlocks, x: np.ndarray, y: np.ndarray) -> float:
  return _total(blocks, x, y) / (len(x) * len(y))


def _mean_of_pairs(x: np.ndarray) -> float:
  """Mean of the polynomial kernel over pairs of different samples."""
  diagonal = _polynomial(np.square(x).sum(1), x.shape[1]).sum()
  count = len(x)
  return (_total(_polynomial_blocks, x, x) - diagonal) / (count * (count - 1))
