"""Metrics of an image set, from its stored features."""

import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from absl import logging

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation import metrics
from softdimo_jax.evaluation import reference as reference_set
from softdimo_jax.evaluation.features.store import FeatureStore
from softdimo_jax.evaluation.reference import ReferenceSet

Row = dict[str, Any]
Field = TypeVar('Field')

# Inception score: number of splits in torch-fidelity, samples per split in ADM.
_SPLITS, _ADM_SPLIT = 10, 5000
# Inception's features: the covariance of fewer images is singular.
_FEW = 2048


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
  """Hyper-parameters of metrics; the defaults are the published ones.

  Attributes:
    neighbours: k of precision, recall, density and coverage.
    kid_subsets: number of random subsets for KID.
    kid_subset_size: images per subset, at most the size of the smaller set.
  """

  neighbours: int = 3
  kid_subsets: int = 100
  kid_subset_size: int = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Features:
  """Features of N images and of their reference; None if not extracted.

  Attributes:
    inception: Inception features of the images.
    clip: features of the images from the CLIP of the CLIP score.
    cmmd: features of the images from the CLIP of CMMD.
    prompts: float32 [N, E], features of the prompts from the CLIP of `clip`.
    reference: the reference.
    reference_inception: Inception features of the reference images.
    reference_cmmd: features of the reference images from the CLIP of CMMD.
  """

  inception: FeatureStore | None = None
  clip: FeatureStore | None = None
  cmmd: FeatureStore | None = None
  prompts: np.ndarray | None = None
  reference: ReferenceSet | None = None
  reference_inception: FeatureStore | None = None
  reference_cmmd: FeatureStore | None = None


def _read(field: Field | None) -> Field:
  """A field of `Features`, which the evaluator has filled in for the metric."""
  if field is None:
    raise ValueError('its features are missing')
  return field


def _fid(features: Features, options: Options) -> Row:
  del options
  return {'fid': _distance(features, 'fid', 'vectors')}


def _sfid(features: Features, options: Options) -> Row:
  del options
  return {'sfid': _distance(features, 'sfid', 'spatial')}


def _distance(features: Features, metric: str, name: str) -> float:
  reference = reference_set.moments(
    _read(features.reference), metric, features.reference_inception, name
  )
  return metrics.frechet_distance(
    _read(features.inception).moments(name), reference
  )


def _inception_score(features: Features, options: Options) -> Row:
  del options
  split = metrics.shuffled_splits(_read(features.inception).num_images, _SPLITS)
  scores = _split_scores(_read(features.inception), split)
  return {'is': float(np.mean(scores)), 'is_std': float(np.std(scores))}


def _adm_inception_score(features: Features, options: Options) -> Row:
  del options
  split = metrics.consecutive_splits(
    _read(features.inception).num_images, _ADM_SPLIT
  )
  return {
    'is_adm': float(np.mean(_split_scores(_read(features.inception), split)))
  }


def _split_scores(store: FeatureStore, split: np.ndarray) -> list[float]:
  """Score of every split, in memory independent of the number of images."""
  statistics, start = {}, 0
  for logits in store.parts('logits'):
    numbers = split[start : start + len(logits)]
    for number in np.unique(numbers):
      chosen = logits[numbers == number]
      empty = metrics.ClassStatistics.empty(logits.shape[1])
      statistics[number] = statistics.get(number, empty).update(chosen)
    start += len(logits)
  return [statistics[number].score for number in sorted(statistics)]


def _kid(features: Features, options: Options) -> Row:
  kid = metrics.kid(
    reference_set.vectors(
      _read(features.reference), 'kid', features.reference_inception
    ),
    _read(features.inception).stack('vectors'),
    subsets=options.kid_subsets,
    subset_size=options.kid_subset_size,
  )
  return {'kid': kid.mean, 'kid_std': kid.std}


def _precision_recall(
  name: str, adm_float16: bool, features: Features, options: Options
) -> Row:
  scores = metrics.precision_recall(
    _read(features.reference_inception).stack('vectors'),
    _read(features.inception).stack('vectors'),
    options.neighbours,
    adm_float16=adm_float16,
  )
  return {
    f'precision{name}': scores.precision,
    f'recall{name}': scores.recall,
  }


def _pr(features: Features, options: Options) -> Row:
  return _precision_recall('', False, features, options)


def _pr_float16(features: Features, options: Options) -> Row:
  return _precision_recall('_float16', True, features, options)


def _prdc(features: Features, options: Options) -> Row:
  scores = metrics.precision_recall_density_coverage(
    _read(features.reference_inception).stack('vectors'),
    _read(features.inception).stack('vectors'),
    options.neighbours,
  )
  return {
    'prdc_precision': scores.precision,
    'prdc_recall': scores.recall,
    'density': scores.density,
    'coverage': scores.coverage,
  }


def _cmmd(features: Features, options: Options) -> Row:
  del options
  ours, others = (
    _unit(_read(store).stack('embeddings'))
    for store in (features.cmmd, features.reference_cmmd)
  )
  return {'cmmd': metrics.cmmd(others, ours)}


def _clip_score(features: Features, options: Options) -> Row:
  del options
  images = _read(features.clip).stack('embeddings')
  return {'clip_score': metrics.clip_score(images, _read(features.prompts))}


def _unit(x: np.ndarray) -> np.ndarray:
  x = x.astype(np.float64)
  return x / np.linalg.norm(x, axis=1, keepdims=True)


# Metrics by name, in the order of a row.
METRICS: Mapping[str, Callable[[Features, Options], Row]] = (
  types.MappingProxyType(
    {
      'fid': _fid,
      'sfid': _sfid,
      'is': _inception_score,
      'is_adm': _adm_inception_score,
      'kid': _kid,
      'pr': _pr,
      'pr_float16': _pr_float16,
      'prdc': _prdc,
      'cmmd': _cmmd,
      'clip_score': _clip_score,
    }
  )
)
# Metrics that read Inception features, and that need a reference.
OF_INCEPTION = frozenset(METRICS) - {'cmmd', 'clip_score'}
OF_REFERENCE = frozenset(METRICS) - {'is', 'is_adm', 'clip_score'}


def check_counts(
  names: tuple[str, ...],
  images: int,
  reference: int | None,
  options: Options = Options(),
) -> None:
  """Checks the numbers of images before anything is computed.

  Warns of a Frechet distance between fewer images than features.

  Args:
    names: names in `METRICS`.
    images: number of images.
    reference: number of those of the reference; None if it is unknown.
    options: hyper-parameters.

  Raises:
    UserError: if a metric needs more images.
  """
  for name in names:
    needed, remedy = _least(name, options)
    counts = (images, reference) if name in OF_REFERENCE else (images,)
    few = [x for x in counts if x is not None and x < needed]
    if few:
      raise UserError(
        f'{name} cannot be computed: it needs at least {needed} images in each '
        f'set, and one has {few[0]}; {remedy}or leave {name} out of --metrics'
      )
  if images < _FEW and 'fid' in names:
    logging.warning(
      'fid of %d images is not comparable with published values, which use '
      '50000: with fewer than %d, it mostly measures their number',
      *(images, _FEW),
    )


def _least(name: str, options: Options) -> tuple[int, str]:
  """(images that a metric needs, which flag lowers that)."""
  if name == 'kid':
    return options.kid_subset_size, 'lower --kid_subset_size, '
  if name in ('pr', 'pr_float16', 'prdc'):
    return options.neighbours + 1, 'lower --neighbours, '
  return {'fid': 2, 'sfid': 2, 'is': _SPLITS}.get(name, 1), ''


def measure(
  names: tuple[str, ...], features: Features, options: Options = Options()
) -> tuple[Row, list[str]]:
  """Computes metrics from features.

  Args:
    names: names in `METRICS`.
    features: features that these metrics read.
    options: hyper-parameters.

  Returns:
    (values by name, sentences about metrics that cannot be computed: for
    different widths or features that are not finite).
  """
  row, failures = {}, []
  for name in names:
    try:
      row |= METRICS[name](features, options)
    except ValueError as error:
      failures.append(f'{name} cannot be computed: {error}')
  return row, failures
