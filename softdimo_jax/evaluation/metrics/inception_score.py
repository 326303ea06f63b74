"""Inception score from logits, which may arrive in batches."""

import dataclasses

import numpy as np

from softdimo_jax.evaluation.metrics.features import (
  as_features,
  check_same_width,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassStatistics:
  """Statistics of a set of samples for the inception score.

  Attributes:
    count: number of samples n.
    probabilities: mean class probabilities q, float64 [C]; zero while n = 0.
    negentropy: mean over samples of sum_c p log p, <= 0.
  """

  count: int
  probabilities: np.ndarray
  negentropy: float

  @classmethod
  def empty(cls, classes: int) -> 'ClassStatistics':
    """The neutral element of `merge` for C classes."""
    return cls(count=0, probabilities=np.zeros(classes), negentropy=0.0)

  @classmethod
  def from_logits(cls, logits: np.ndarray) -> 'ClassStatistics':
    """Statistics of logits [N, C], N >= 1.

    Raises:
      ValueError: if they are not [N, C], empty or not finite.
    """
    logits = as_features(logits, 'logits', minimum=1)
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))  # [N, C]
    p = np.exp(log_p)
    return cls(
      count=len(p),
      probabilities=p.mean(0),
      negentropy=float((p * log_p).sum(1).mean()),
    )

  def merge(self, other: 'ClassStatistics') -> 'ClassStatistics':
    """Statistics of the union of two disjoint sets.

    Raises:
      ValueError: if the numbers of classes differ.
    """
    check_same_width(self.probabilities, other.probabilities)
    count = self.count + other.count
    if count == 0:
      return self
    share = other.count / count
    return ClassStatistics(
      count=count,
      probabilities=(1 - share) * self.probabilities
      + share * other.probabilities,
      negentropy=(1 - share) * self.negentropy + share * other.negentropy,
    )

  def update(self, logits: np.ndarray) -> 'ClassStatistics':
    """Statistics after one more batch of logits [N, C]."""
    return self.merge(ClassStatistics.from_logits(logits))

  @property
  def score(self) -> float:
    """exp of the mean divergence KL(p | q), in [1, C].

    Raises:
      ValueError: while there are no samples.
    """
    if self.count == 0:
      raise ValueError('an inception score needs at least 1 sample, got 0')
    # Classes whose probability underflows for all samples are zero in q too.
    q = self.probabilities[self.probabilities > 0]
    return float(np.exp(self.negentropy - (q * np.log(q)).sum()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class InceptionScore:
  """Mean and standard deviation (divisor n) over splits."""

  mean: float
  std: float


def inception_score(
  logits: np.ndarray, split: np.ndarray | None = None
) -> InceptionScore:
  """Inception score (Salimans et al., 2016), averaged over splits.

  Args:
    logits: [N, C]; the official implementations omit the last layer's bias.
    split: int [N], split of each sample, numbered from zero without gaps; None
      for `shuffled_splits(N)`, torch-fidelity's convention. ADM's evaluator
      uses `consecutive_splits(N)`.

  Returns:
    Mean and standard deviation, which is zero for a single split.

  Raises:
    ValueError: if a split is empty, the lengths differ or the logits are not
      finite.
  """
  logits = as_features(logits, 'logits', minimum=1)
  split = shuffled_splits(len(logits)) if split is None else np.asarray(split)
  if split.shape != logits.shape[:1]:
    raise ValueError(
      f'{len(logits)} samples need as many splits, got shape {split.shape}'
    )
  scores = [
    ClassStatistics.from_logits(logits[split == i]).score
    for i in range(split.max() + 1)
  ]
  return InceptionScore(mean=float(np.mean(scores)), std=float(np.std(scores)))


def shuffled_splits(
  count: int, splits: int = 10, seed: int | None = 2020
) -> np.ndarray:
  """Equal splits of shuffled samples, as in torch-fidelity.

  They allow streaming the score, with one `ClassStatistics` per split.

  Args:
    count: number of all samples.
    splits: number of splits.
    seed: seed of the shuffling with numpy's legacy generator; None keeps the
      order.

  Returns:
    int [count] in [0, splits).

  Raises:
    ValueError: if a split would be empty.
  """
  if not 1 <= splits <= count:
    raise ValueError(f'{count} samples cannot be cut into {splits} splits')
  ends = np.arange(1, splits + 1) * count // splits
  ordered = np.searchsorted(ends, np.arange(count), side='right')
  if seed is None:
    return ordered
  split = np.empty_like(ordered)
  split[np.random.RandomState(seed).permutation(count)] = ordered
  return split


def consecutive_splits(count: int, split_size: int = 5000) -> np.ndarray:
  """Consecutive splits; the last one holds the remainder (ADM).

  If a file is sorted by class, each split contains few classes and the score is
  too low: shuffle before writing it.

  Args:
    count: number of all samples.
    split_size: samples per split.

  Returns:
    int [count], numbered from 0.

  Raises:
    ValueError: if `split_size` is not positive.
  """
  if split_size < 1:
    raise ValueError(f'split_size must be at least 1, got {split_size}')
  return np.arange(count) // split_size
