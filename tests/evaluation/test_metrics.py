import pathlib
import tracemalloc

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from softdimo_jax.evaluation import metrics
from softdimo_jax.evaluation.metrics import (
  FeatureStatistics,
  exact_copy_rate,
  frechet_distance,
  precision_recall_density_coverage,
  unique_rate,
)

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden' / 'metrics.npz'


def feature_sets(min_rows=5, max_rows=30, width=3):
  """Features on a grid of integers: sums are exact, ties are frequent."""
  rows = st.integers(min_rows, max_rows)
  values = st.integers(-8, 8).map(float)
  return rows.flatmap(
    lambda n: hnp.arrays(np.float64, (n, width), elements=values)
  )


def gaussian(mean, covariance):
  return FeatureStatistics(
    count=100,
    mean=np.asarray(mean, np.float64),
    covariance=np.asarray(covariance, np.float64),
  )


@pytest.fixture(scope='module')
def golden():
  with np.load(GOLDEN) as arrays:
    return dict(arrays)


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


class TestPrecisionRecallDensityCoverage:
  @pytest.mark.parametrize(('k', 'prefix'), [(3, 'prdc'), (5, 'prdc5')])
  def test_agrees_with_official_code(self, golden, k, prefix):
    ours = precision_recall_density_coverage(golden['ref'], golden['gen'], k)
    for name in ('precision', 'recall', 'density', 'coverage'):
      official = golden[f'{prefix}_{name}_f64']
      assert getattr(ours, name) == pytest.approx(official, rel=1e-12), name

  def test_points_on_a_line(self):
    real = np.array([[0.0], [1.0], [2.0], [10.0]])
    fake = np.array([[0.5], [1.2], [30.0]])
    # k = 1: real balls (-1, 1), (0, 2), (1, 3), (2, 18); fake balls
    # (-.2, 1.2), (.5, 1.9), (1.2, 58.8).
    found = precision_recall_density_coverage(real, fake, k=1)
    assert found.precision == pytest.approx(2 / 3)
    assert found.recall == pytest.approx(4 / 4)
    assert found.density == pytest.approx((2 + 2 + 0) / 3)
    assert found.coverage == pytest.approx(3 / 4)

  def test_balls_are_open(self):
    real, fake = np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]])
    found = precision_recall_density_coverage(real, fake, k=1)
    assert found.precision == found.recall == found.coverage == 0

  def test_equal_sets_overlap_completely(self):
    x = np.random.default_rng(0).normal(size=(40, 5))
    found = precision_recall_density_coverage(x, x)
    assert found.precision == found.recall == found.coverage == 1
    assert found.density == pytest.approx(1)

  def test_distant_sets_do_not_overlap(self):
    x = np.random.default_rng(0).normal(size=(40, 5))
    found = precision_recall_density_coverage(x, x + 100)
    assert found.precision == found.recall == 0
    assert found.density == found.coverage == 0

  def test_collapse_costs_recall_not_precision(self):
    rng = np.random.default_rng(0)
    real = rng.normal(size=(200, 2))
    found = precision_recall_density_coverage(real, 0.05 * real)
    assert found.precision > 0.95
    assert found.recall < 0.3

  @hypothesis.given(real=feature_sets(), fake=feature_sets(), data=st.data())
  @hypothesis.settings(deadline=None, max_examples=30)
  def test_invariant_to_order_and_common_shift(self, real, fake, data):
    shift = data.draw(st.integers(-50, 50))
    order = data.draw(st.permutations(range(len(fake))))
    assert precision_recall_density_coverage(
      real[::-1] + shift, fake[order] + shift
    ) == precision_recall_density_coverage(real, fake)

  def test_duplicates_are_at_distance_zero(self):
    # An irrational point far out: the expanded square leaves rounding.
    point = np.full((1, 8), 1e3 / 7)
    real = np.concatenate([np.repeat(point, 4, 0), point + 1])
    found = precision_recall_density_coverage(real, real, k=3)
    assert found.coverage == pytest.approx(1 / 5)

  def test_blocks_change_nothing(self, golden, monkeypatch):
    whole = precision_recall_density_coverage(golden['ref'], golden['gen'])
    monkeypatch.setattr(metrics, '_BLOCK_ENTRIES', 7 * len(golden['gen']))
    blocked = precision_recall_density_coverage(golden['ref'], golden['gen'])
    assert blocked == whole

  def test_memory_is_bounded_by_the_block(self, monkeypatch):
    x, y = np.random.default_rng(0).normal(size=(2, 2000, 4))
    monkeypatch.setattr(metrics, '_BLOCK_ENTRIES', 20 * 2000)
    tracemalloc.start()
    precision_recall_density_coverage(x, y)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2000 * 2000 / 10  # a tenth of one full matrix

  @pytest.mark.parametrize(
    ('real', 'fake', 'k', 'message'),
    [
      (np.zeros((3, 2)), np.zeros((9, 2)), 3, 'real needs at least 4 samples'),
      (np.zeros((9, 2)), np.zeros((3, 2)), 3, 'fake needs at least 4 samples'),
      (np.zeros((9, 2)), np.zeros((9, 3)), 3, 'widths differ: 2 and 3'),
      (np.zeros((9, 2)), np.full((9, 2), np.inf), 3, 'fake holds NaN'),
      (np.zeros((9, 2)), np.zeros((9, 2)), 0, 'k must be at least 1'),
    ],
  )
  def test_bad_input(self, real, fake, k, message):
    with pytest.raises(ValueError, match=message):
      precision_recall_density_coverage(real, fake, k)


class TestTokenRates:
  def test_exact_copies(self):
    reference = np.array([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], np.int32)
    tokens = np.array(
      [[[1, 2], [3, 4]], [[1, 2], [3, 5]], [[5, 6], [7, 8]], [[2, 1], [3, 4]]],
      np.uint8,
    )
    assert exact_copy_rate(tokens, reference) == 0.5

  def test_unique(self):
    assert unique_rate(np.array([[1, 2], [1, 2], [2, 1], [0, 0]])) == 0.75

  @pytest.mark.parametrize(
    ('tokens', 'message'),
    [
      (np.zeros((3, 4)), 'must be integers, got float64'),
      (np.zeros((0, 4), np.int32), 'N > 0'),
      (np.zeros(4, np.int32), r'\[N, ...\]'),
      (np.zeros((3, 5), np.int32), r'differ in shape: \(5,\) and \(4,\)'),
    ],
  )
  def test_bad_tokens(self, tokens, message):
    with pytest.raises(ValueError, match=message):
      exact_copy_rate(tokens, np.zeros((2, 4), np.int32))
