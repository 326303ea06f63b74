import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from softdimo_jax.evaluation.metrics import (
  ClassStatistics,
  consecutive_splits,
  inception_score,
  shuffled_splits,
)
from tests.evaluation.metrics.strategies import feature_sets


class TestInceptionScore:
  def test_agrees_with_official_codes(self, golden):
    logits = golden['logits']
    shuffled = inception_score(logits)
    assert shuffled.mean == pytest.approx(golden['isc_mean_f64'], rel=1e-12)
    assert shuffled.std == pytest.approx(golden['isc_std_f64'], rel=1e-12)
    split = consecutive_splits(500, int(golden['isc_adm_split_size']))
    adm = inception_score(golden['acts'] @ golden['W'], split)
    assert adm.mean == pytest.approx(golden['isc_adm_f64'], rel=1e-6)

  def test_unsure_logits_score_one(self):
    found = inception_score(np.zeros((40, 7)))
    assert found.mean == pytest.approx(1)
    assert found.std == pytest.approx(0, abs=1e-12)

  def test_sure_and_even_logits_score_the_number_of_classes(self):
    logits = np.tile(1e4 * np.eye(5), (8, 1))
    found = inception_score(logits, np.zeros(40, int))
    assert found.mean == pytest.approx(5)
    assert found.std == 0

  def test_a_sorted_file_scores_low_in_consecutive_splits(self):
    logits = np.repeat(50 * np.eye(5), 8, axis=0)
    assert inception_score(logits, consecutive_splits(40, 8)).mean < 1.01
    assert inception_score(logits, shuffled_splits(40, 1)).mean > 4.99

  @hypothesis.given(logits=feature_sets(width=4), shift=st.integers(-900, 900))
  @hypothesis.settings(deadline=None, max_examples=30)
  def test_a_common_shift_of_logits_changes_nothing(self, logits, shift):
    split = np.zeros(len(logits), int)
    original = inception_score(logits, split).mean
    assert 1 - 1e-9 <= original <= 4 + 1e-9
    moved = inception_score(logits + shift, split).mean
    assert moved == pytest.approx(original, rel=1e-9)

  @pytest.mark.parametrize(
    ('logits', 'split', 'message'),
    [
      (np.zeros((9, 3)), None, '9 samples cannot be cut into 10 splits'),
      (np.full((20, 3), np.nan), None, 'NaN or infinity'),
      (np.zeros((4, 3)), np.zeros(3, int), '4 samples need as many splits'),
      (np.zeros((2, 3)), np.array([0, 2]), 'at least 1 samples, got 0'),
    ],
  )
  def test_bad_input(self, logits, split, message):
    with pytest.raises(ValueError, match=message):
      inception_score(logits, split)


class TestClassStatistics:
  @hypothesis.given(logits=feature_sets(width=4), data=st.data())
  @hypothesis.settings(deadline=None, max_examples=30)
  def test_streaming_equals_batch(self, logits, data):
    cuts = data.draw(st.lists(st.integers(1, len(logits) - 1), unique=True))
    streamed = ClassStatistics.empty(4)
    for part in np.split(logits, sorted(cuts)):
      streamed = streamed.update(part)
    whole = ClassStatistics.from_logits(logits)
    assert streamed.count == whole.count
    assert streamed.score == pytest.approx(whole.score, rel=1e-12)

  def test_bad_statistics(self):
    empty = ClassStatistics.empty(3)
    with pytest.raises(ValueError, match='at least 1 sample, got 0'):
      _ = empty.merge(empty).score
    with pytest.raises(ValueError, match='widths differ: 3 and 4'):
      empty.update(np.zeros((2, 4)))


class TestSplits:
  def test_shuffled_splits_are_even_and_shuffled(self):
    split = shuffled_splits(23, 4)
    assert sorted(np.bincount(split)) == [5, 6, 6, 6]
    assert (np.diff(split) < 0).any()
    assert (split == shuffled_splits(23, 4)).all()
    assert (split != shuffled_splits(23, 4, seed=1)).any()

  def test_without_a_seed_the_order_stays(self):
    assert shuffled_splits(7, 3, seed=None).tolist() == [0, 0, 1, 1, 2, 2, 2]

  def test_consecutive_splits(self):
    assert consecutive_splits(5, 2).tolist() == [0, 0, 1, 1, 2]
    with pytest.raises(ValueError, match='split_size must be at least 1'):
      consecutive_splits(5, 0)
