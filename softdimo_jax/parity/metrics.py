"""Fixtures of the metrics on features, logits and embeddings."""

import re
from collections.abc import Iterator

import numpy as np

from softdimo_jax.evaluation import metrics
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.record import Arrays

# Arguments of the official calls that the fixtures do not contain.
_CLEANFID_SUBSETS, _CLEANFID_SEED = 10, 0


def metrics_of_sets(fixture: Fixture) -> Arrays:
  """All arrays of the fixture."""
  return {
    **_frechet(fixture.arrays),
    **_kernel(fixture),
    **_inception_scores(fixture.arrays),
    **_manifold(fixture),
    **_densities(fixture),
  }


def _frechet(arrays: Arrays) -> Arrays:
  """Moments, and our distance under the names of all official codes."""
  ours = {}
  for tag, real, fake in _pairs(arrays):
    statistics = {
      f'{tag}{name}': metrics.FeatureStatistics.from_features(features)
      for name, features in (('ref', real), ('gen', fake))
    }
    for name, moments in statistics.items():
      ours[f'mu_{name}_f64'] = moments.mean
      ours[f'sigma_{name}_f64'] = moments.covariance
    distance = metrics.frechet_distance(*statistics.values())
    codes = re.compile(rf'fid_{tag}(torch_fidelity|cleanfid|edm|adm|eigh)_f64')
    ours |= {name: distance for name in arrays if codes.fullmatch(name)}
  return ours


def _pairs(arrays: Arrays) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
  """Yields (TAG_, real features, fake features)."""
  for name in arrays:
    tag = name.removesuffix('ref')
    if re.fullmatch('(lowrank_)?ref', name) and f'{tag}gen' in arrays:
      yield tag, arrays[name], arrays[f'{tag}gen']


def _kernel(fixture: Fixture) -> Arrays:
  arrays, config = fixture.arrays, fixture.config['kid']
  real, fake = arrays['ref'], arrays['gen']
  draws = {key: config[key] for key in ('subsets', 'subset_size', 'seed')}
  first = next(metrics.kid_subsets(len(real), len(fake), **draws))
  kid = metrics.kid(real, fake, **draws)
  least = min(len(real), len(fake))
  cleanfid = metrics.kid(
    real,
    fake,
    subsets=_CLEANFID_SUBSETS,
    subset_size=min(config['subset_size'], least),
    seed=_CLEANFID_SEED,
  )
  return {
    'kid_idx_ref_first': first[0],
    'kid_idx_gen_first': first[1],
    'kid_mean_f64': kid.mean,
    'kid_std_f64': kid.std,
    'kid_full_f64': metrics.polynomial_mmd(real[:least], fake[:least]),
    'cleanfid_kid_seed0_f64': cleanfid.mean,
    'cmmd_f64': metrics.cmmd(arrays['emb_x'], arrays['emb_y']),
  }


def _inception_scores(arrays: Arrays) -> Arrays:
  logits = arrays['logits']
  adm_logits = arrays['acts'].astype(np.float64) @ arrays['W']
  split_size = int(arrays['isc_adm_split_size'])
  count = len(logits)
  shuffled = metrics.inception_score(logits)
  ordered = metrics.inception_score(
    logits, metrics.shuffled_splits(count, seed=None)
  )
  whole = metrics.inception_score(logits, np.zeros(count, int))
  adm = metrics.inception_score(
    adm_logits, metrics.consecutive_splits(len(adm_logits), split_size)
  )
  return {
    'isc_mean_f64': shuffled.mean,
    'isc_std_f64': shuffled.std,
    'isc_noshuffle_mean_f64': ordered.mean,
    'isc_noshuffle_std_f64': ordered.std,
    'isc_onesplit_f64': whole.mean,
    'isc_adm_f64': adm.mean,
  }


def _manifold(fixture: Fixture) -> Arrays:
  """Metrics with closed balls: torch-fidelity's in one or more parts, ADM's."""
  arrays, k = fixture.arrays, fixture.config['k']
  real, fake = arrays['ref'], arrays['gen']
  exact = metrics.precision_recall(real, fake, k)
  rounded = metrics.precision_recall(real, fake, k, adm_float16=True)
  results = {
    'prc_{}_part_f64': exact,
    'prc_{}_full_f64': exact,
    'adm_{}_fp32_f64': exact,
    'adm_{}_fp16_f64': rounded,
  }
  radii = {
    f'adm_radii_{name}_{side}': metrics.squared_radii(
      features, k, adm_float16=name == 'fp16'
    )
    for name in ('fp16', 'fp32')
    for side, features in (('ref', real), ('gen', fake))
  }
  return radii | {
    name.format(side): getattr(value, side)
    for name, value in results.items()
    for side in ('precision', 'recall')
  }


def _densities(fixture: Fixture) -> Arrays:
  """Metrics with open balls, `prdcK_NAME_f64`; K is by default config's k."""
  arrays, ours = fixture.arrays, {}
  for name in arrays:
    match = re.fullmatch(r'prdc(\d*)_(\w+)_f64', name)
    if match:
      k = int(match[1] or fixture.config['k'])
      result = metrics.precision_recall_density_coverage(
        arrays['ref'], arrays['gen'], k
      )
      ours[name] = getattr(result, match[2])
  return ours
