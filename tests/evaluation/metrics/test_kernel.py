import hypothesis
import numpy as np
import pytest

from softdimo_jax.evaluation.metrics import (
  clip_score,
  cmmd,
  kid,
  kid_subsets,
  polynomial_mmd,
)
from tests.evaluation.metrics.strategies import feature_sets


def unit_rows(seed, count, width=4, centre=0.0):
  x = np.random.default_rng(seed).normal(centre, size=(count, width))
  return x / np.linalg.norm(x, axis=1, keepdims=True)


class TestKid:
  def test_agrees_with_official_code(self, golden):
    ours = kid(golden['ref'], golden['gen'], subsets=20, subset_size=100)
    # The official one computes in float32.
    assert ours.mean == pytest.approx(golden['kid_mean_f64'], rel=1e-5)
    assert ours.std == pytest.approx(golden['kid_std_f64'], rel=1e-5)

  def test_first_draws_are_the_official_ones(self, golden):
    real, fake = next(
      kid_subsets(300, 260, subsets=1, subset_size=100, seed=2020)
    )
    np.testing.assert_array_equal(real, golden['kid_idx_ref_first'])
    np.testing.assert_array_equal(fake, golden['kid_idx_gen_first'])

  def test_is_unbiased(self):
    x, y = np.random.default_rng(0).normal(size=(2, 400, 3))
    found = kid(x, y, subsets=200, subset_size=20)
    assert abs(found.mean) < 4 * found.std / 200**0.5

  def test_grows_with_the_shift(self):
    x = np.random.default_rng(0).normal(size=(60, 3))
    near, far = (kid(x, x + s, subsets=5, subset_size=30) for s in (0.5, 2))
    assert 0 < near.mean < far.mean

  @pytest.mark.parametrize(
    ('sizes', 'options', 'message'),
    [
      ((999, 1000), {}, 'real needs at least 1000 samples, got 999'),
      ((1000, 9), {}, 'fake needs at least 1000 samples, got 9'),
      ((9, 9), {'subsets': 0}, 'got 0 of 1000'),
      ((9, 9), {'subset_size': 1}, 'got 100 of 1'),
    ],
  )
  def test_bad_input(self, sizes, options, message):
    real, fake = (np.zeros((n, 2)) for n in sizes)
    with pytest.raises(ValueError, match=message):
      kid(real, fake, **options)


class TestPolynomialMmd:
  def test_agrees_with_official_code(self, golden):
    ours = polynomial_mmd(golden['ref'][:260], golden['gen'])
    assert ours == pytest.approx(golden['kid_full_f64'], rel=1e-12)

  def test_two_points_a_side(self):
    # k(x, y) = (xy + 1)^3 in one dimension.
    found = polynomial_mmd(np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]]))
    assert found == 1 + 27 - 2 * (1 + 1 + 8 + 27) / 4

  @hypothesis.given(x=feature_sets(), y=feature_sets())
  @hypothesis.settings(deadline=None, max_examples=30)
  def test_is_symmetric(self, x, y):
    assert polynomial_mmd(x, y) == pytest.approx(polynomial_mmd(y, x))

  def test_memory_is_bounded_by_the_block(self, peak_in_blocks):
    assert peak_in_blocks(polynomial_mmd) < 1 / 10

  def test_bad_input(self):
    with pytest.raises(ValueError, match='widths differ: 2 and 3'):
      polynomial_mmd(np.zeros((4, 2)), np.zeros((4, 3)))
    with pytest.raises(ValueError, match='fake needs at least 2 samples'):
      polynomial_mmd(np.zeros((4, 2)), np.zeros((1, 2)))


class TestCmmd:
  def test_agrees_with_official_code(self, golden):
    ours = cmmd(golden['emb_x'], golden['emb_y'])
    assert ours == pytest.approx(golden['cmmd_f64'], rel=1e-9)

  def test_equal_sets_are_at_distance_zero(self):
    x = unit_rows(0, 30)
    assert cmmd(x, x[::-1]) == pytest.approx(0, abs=1e-9)

  def test_opposite_points_have_a_closed_form(self):
    x = np.array([[1.0, 0.0]])
    expected = 1000 * (2 - 2 * np.exp(-4 / 200))
    assert cmmd(x, -x) == pytest.approx(expected)

  def test_bad_input(self):
    x = unit_rows(0, 5)
    with pytest.raises(ValueError, match=r'real must be L2-norm.* to 2'):
      cmmd(2 * x, x)
    with pytest.raises(ValueError, match='widths differ: 4 and 3'):
      cmmd(x, unit_rows(0, 5, width=3))


class TestClipScore:
  def test_is_the_mean_cosine(self):
    images = np.array([[2.0, 0.0], [0.0, 3.0]])
    texts = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert clip_score(images, texts) == pytest.approx((1 + 0.5**0.5) / 2)

  def test_bad_input(self):
    x = unit_rows(0, 5)
    with pytest.raises(ValueError, match='must have one shape'):
      clip_score(x, x[:4])
    with pytest.raises(ValueError, match='length zero'):
      clip_score(x, 0 * x)
    with pytest.raises(ValueError, match='texts holds NaN'):
      clip_score(x, np.nan * x)
