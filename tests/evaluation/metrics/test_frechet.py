import dataclasses

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from softdimo_jax.evaluation.metrics import FeatureStatistics, frechet_distance
from tests.evaluation.metrics.strategies import feature_sets


def gaussian(mean, covariance):
  return FeatureStatistics(
    count=100,
    mean=np.asarray(mean, np.float64),
    covariance=np.asarray(covariance, np.float64),
  )


class TestFeatureStatistics:
  def test_matches_numpy(self):
    x = np.random.default_rng(0).normal(size=(50, 4)) + 3
    statistics = FeatureStatistics.from_features(x)
    assert statistics.count == 50
    np.testing.assert_allclose(statistics.mean, x.mean(0))
    np.testing.assert_allclose(statistics.covariance, np.cov(x.T), atol=1e-12)

  @hypothesis.given(x=feature_sets(), data=st.data())
  @hypothesis.settings(deadline=None, max_examples=30)
  def test_streaming_equals_batch(self, x, data):
    cuts = data.draw(st.lists(st.integers(1, len(x) - 1), unique=True))
    streamed = FeatureStatistics.empty(x.shape[1])
    for part in np.split(x, sorted(cuts)):
      streamed = streamed.update(part)
    whole = FeatureStatistics.from_features(x)
    assert streamed.count == whole.count
    np.testing.assert_allclose(streamed.mean, whole.mean, atol=1e-12)
    np.testing.assert_allclose(
      streamed.covariance, whole.covariance, atol=1e-10
    )

  def test_merging_keeps_precision_far_from_the_origin(self):
    x = np.random.default_rng(0).normal(size=(400, 3)) + 1e6
    streamed = FeatureStatistics.empty(3)
    for part in np.split(x, 8):
      streamed = streamed.update(part)
    np.testing.assert_allclose(streamed.covariance, np.cov(x.T), atol=1e-8)

  def test_merging_empty_sets_is_empty(self):
    empty = FeatureStatistics.empty(2)
    assert empty.merge(empty).count == 0

  def test_statistics_of_unknown_count_are_not_merged(self):
    unknown = dataclasses.replace(FeatureStatistics.empty(2), count=None)
    with pytest.raises(ValueError, match='unknown count'):
      unknown.update(np.zeros((4, 2)))

  @pytest.mark.parametrize(
    ('features', 'message'),
    [
      (np.zeros(3), r'must be \[N, D\]'),
      (np.zeros((0, 3)), 'at least 1 samples, got 0'),
      (np.full((4, 3), np.nan), 'NaN or infinity'),
    ],
  )
  def test_bad_features(self, features, message):
    with pytest.raises(ValueError, match=message):
      FeatureStatistics.from_features(features)

  def test_width_mismatch(self):
    statistics = FeatureStatistics.empty(2)
    with pytest.raises(ValueError, match='widths differ: 2 and 3'):
      statistics.update(np.zeros((4, 3)))


class TestFrechetDistance:
  def test_commuting_gaussians_have_a_closed_form(self):
    a = gaussian([0, 1], np.diag([4.0, 9.0]))
    b = gaussian([2, 1], np.diag([1.0, 16.0]))
    expected = 2**2 + (2 - 1) ** 2 + (3 - 4) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected, abs=1e-12)

  def test_two_dimensional_gaussians_have_a_closed_form(self):
    s1, s2 = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[5.0, -2], [-2, 1]])
    # For 2x2, tr sqrt(M) = sqrt(tr M + 2 sqrt(det M)).
    product = s1 @ s2
    root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
    expected = np.trace(s1) + np.trace(s2) - 2 * root
    distance = frechet_distance(gaussian([0, 0], s1), gaussian([0, 0], s2))
    assert distance == pytest.approx(expected, abs=1e-12)

  @hypothesis.given(x=feature_sets(), y=feature_sets())
  @hypothesis.settings(deadline=None, max_examples=30)
  def test_is_a_symmetric_premetric(self, x, y):
    a, b = map(FeatureStatistics.from_features, (x, y))
    distance = frechet_distance(a, b)
    assert distance >= 0
    assert frechet_distance(b, a) == pytest.approx(distance, abs=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)

  @hypothesis.given(
    x=feature_sets(), y=feature_sets(), shift=st.integers(-50, 50)
  )
  @hypothesis.settings(deadline=None, max_examples=30)
  def test_invariant_to_order_and_common_shift(self, x, y, shift):
    original = frechet_distance(*map(FeatureStatistics.from_features, (x, y)))
    moved = frechet_distance(
      FeatureStatistics.from_features(x[::-1] + shift),
      FeatureStatistics.from_features(y[::-1] + shift),
    )
    assert moved == pytest.approx(original, abs=1e-6)

  def test_shift_of_one_set_adds_its_squared_length(self):
    x = np.random.default_rng(0).normal(size=(60, 3))
    moved = FeatureStatistics.from_features(x + np.array([3, 0, 4]))
    distance = frechet_distance(FeatureStatistics.from_features(x), moved)
    assert distance == pytest.approx(25)

  def test_exact_with_fewer_samples_than_features(self):
    x, y = np.random.default_rng(0).normal(size=(2, 20, 200))
    roots = [(z - z.mean(0)) / np.sqrt(len(z) - 1) for z in (x, y)]
    nuclear = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    expected = (
      np.square(x.mean(0) - y.mean(0)).sum()
      + sum(np.square(root).sum() for root in roots)
      - 2 * nuclear
    )
    distance = frechet_distance(*map(FeatureStatistics.from_features, (x, y)))
    assert distance == pytest.approx(expected, rel=1e-12)

  @pytest.mark.parametrize('prefix', ['', 'lowrank_'])
  def test_agrees_with_official_codes(self, golden, prefix):
    distance = frechet_distance(
      FeatureStatistics.from_features(golden[f'{prefix}ref']),
      FeatureStatistics.from_features(golden[f'{prefix}gen']),
    )
    for code in ('torch_fidelity', 'adm', 'eigh'):
      official = golden[f'fid_{prefix}{code}_f64']
      assert distance == pytest.approx(official, rel=1e-6), code

  def test_moments_agree_with_official_codes(self, golden):
    statistics = FeatureStatistics.from_features(golden['ref'])
    np.testing.assert_allclose(statistics.mean, golden['mu_ref_f64'], atol=1e-6)
    np.testing.assert_allclose(
      statistics.covariance, golden['sigma_ref_f64'], atol=1e-12
    )

  def test_bad_statistics(self):
    good = gaussian([0, 0], np.eye(2))
    with pytest.raises(ValueError, match='widths differ'):
      frechet_distance(good, gaussian([0], [[1]]))
    with pytest.raises(ValueError, match='at least 2 samples, got 1'):
      frechet_distance(good, FeatureStatistics.from_features(np.zeros((1, 2))))
    with pytest.raises(ValueError, match='NaN or infinity'):
      frechet_distance(good, gaussian([0, np.inf], np.eye(2)))
