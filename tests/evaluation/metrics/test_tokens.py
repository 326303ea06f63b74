import numpy as np
import pytest

from softdimo_jax.evaluation.metrics import exact_copy_rate, unique_rate


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
