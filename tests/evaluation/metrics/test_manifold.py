import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from softdimo_jax.evaluation.metrics import (
  features,
  precision_recall,
  precision_recall_density_coverage,
  squared_radii,
)
from tests.evaluation.metrics.strategies import feature_sets


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
    monkeypatch.setattr(features, '_BLOCK_ENTRIES', 7 * len(golden['gen']))
    blocked = precision_recall_density_coverage(golden['ref'], golden['gen'])
    assert blocked == whole

  def test_memory_is_bounded_by_the_block(self, peak_in_blocks):
    assert peak_in_blocks(precision_recall_density_coverage) < 1 / 10

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


class TestPrecisionRecall:
  @pytest.mark.parametrize('adm_float16', [False, True])
  def test_agrees_with_official_code(self, golden, adm_float16):
    ours = precision_recall(
      golden['ref'], golden['gen'], adm_float16=adm_float16
    )
    kind = 'fp16' if adm_float16 else 'fp32'
    for name in ('precision', 'recall'):
      official = golden[f'adm_{name}_{kind}_f64']
      assert getattr(ours, name) == pytest.approx(official, rel=1e-12)

  def test_balls_are_closed(self):
    real, fake = np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]])
    found = precision_recall(real, fake, k=1)
    assert found.precision == found.recall == 1 / 2

  @hypothesis.given(real=feature_sets(), fake=feature_sets())
  @hypothesis.settings(deadline=None, max_examples=30)
  def test_exchanging_the_sets_exchanges_the_numbers(self, real, fake):
    one, other = precision_recall(real, fake), precision_recall(fake, real)
    assert (one.precision, one.recall) == (other.recall, other.precision)

  @hypothesis.given(real=feature_sets(), fake=feature_sets())
  @hypothesis.settings(deadline=None, max_examples=30)
  def test_small_integers_are_exact_in_float16(self, real, fake):
    exact = precision_recall(real, fake)
    assert precision_recall(real, fake, adm_float16=True) == exact

  @pytest.mark.parametrize('adm_float16', [False, True])
  def test_blocks_change_nothing(self, golden, monkeypatch, adm_float16):
    sets = golden['ref'], golden['gen']
    whole = precision_recall(*sets, adm_float16=adm_float16)
    monkeypatch.setattr(features, '_BLOCK_ENTRIES', 7 * len(sets[1]))
    assert precision_recall(*sets, adm_float16=adm_float16) == whole

  def test_distances_beyond_float16_are_exact(self):
    x = 1e3 * np.random.default_rng(0).normal(size=(30, 4))
    found = squared_radii(x, adm_float16=True)
    np.testing.assert_array_equal(found, squared_radii(x))

  def test_bad_input(self):
    with pytest.raises(ValueError, match='fake needs at least 4 samples'):
      precision_recall(np.zeros((9, 2)), np.zeros((3, 2)))
    with pytest.raises(ValueError, match='k must be at least 1'):
      squared_radii(np.zeros((9, 2)), 0)


class TestSquaredRadii:
  def test_points_on_a_line(self):
    x = np.array([[0.0], [1.0], [3.0], [7.0]])
    assert squared_radii(x, 1).tolist() == [1, 1, 4, 16]
    assert squared_radii(x, 2).tolist() == [9, 4, 9, 36]

  def test_float16_radii_are_those_of_the_official_code(self, golden):
    ours = squared_radii(golden['ref'], adm_float16=True)
    np.testing.assert_array_equal(ours, golden['adm_radii_fp16_ref'])
