"""Distances between image sets from their features, in float64 numpy.

The metrics do not depend on the network behind the features: Inception or CLIP
for published numbers, a stored classifier at laptop scale. All values are
biased by the number of samples, so compare rows at equal counts only, and next
to a real-against-real row, which shows the floor. Memory is dominated by the
features: distances and kernels are computed in blocks, and moments and class
probabilities can be streamed. `evaluation/measure.py` lists the metrics of the
command `evaluate`.
"""

from softdimo_jax.evaluation.metrics.frechet import (
  FeatureStatistics,
  frechet_distance,
)
from softdimo_jax.evaluation.metrics.inception_score import (
  ClassStatistics,
  InceptionScore,
  consecutive_splits,
  inception_score,
  shuffled_splits,
)
from softdimo_jax.evaluation.metrics.kernel import (
  KernelDistance,
  clip_score,
  cmmd,
  kid,
  kid_subsets,
  polynomial_mmd,
)
from softdimo_jax.evaluation.metrics.manifold import (
  ManifoldMetrics,
  PrecisionRecall,
  precision_recall,
  precision_recall_density_coverage,
  squared_radii,
)
from softdimo_jax.evaluation.metrics.tokens import (
  exact_copy_rate,
  unique_rate,
)

__all__ = [
  'ClassStatistics',
  'FeatureStatistics',
  'InceptionScore',
  'KernelDistance',
  'ManifoldMetrics',
  'PrecisionRecall',
  'clip_score',
  'cmmd',
  'consecutive_splits',
  'exact_copy_rate',
  'frechet_distance',
  'inception_score',
  'kid',
  'kid_subsets',
  'polynomial_mmd',
  'precision_recall',
  'precision_recall_density_coverage',
  'shuffled_splits',
  'squared_radii',
  'unique_rate',
]
