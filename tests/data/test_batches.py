"""Batches: every example once an epoch, and exact resumption."""

import numpy as np
import pytest

from softdimo_jax.data import batches, digits


def arrays(count: int) -> dict[str, np.ndarray]:
  return {'id': np.arange(count), 'square': np.arange(count) ** 2}


def take(iterator, count: int) -> np.ndarray:
  return np.concatenate([next(iterator)['id'] for _ in range(count)])


@pytest.mark.parametrize('size', [1, 4])
def test_every_example_once_an_epoch_in_changing_order(size):
  iterator = batches.shuffled_batches(arrays(12), batch_size=size, seed=0)
  first, second = take(iterator, 12 // size), take(iterator, 12 // size)
  np.testing.assert_array_equal(np.sort(first), np.arange(12))
  np.testing.assert_array_equal(np.sort(second), np.arange(12))
  assert not np.array_equal(first, second)


def test_arrays_stay_together_and_batches_may_exceed_the_data():
  batch = next(batches.shuffled_batches(arrays(5), batch_size=8, seed=1))
  assert len(batch['id']) == 8
  np.testing.assert_array_equal(batch['square'], batch['id'] ** 2)


def test_saved_state_continues_the_sequence():
  make = lambda: batches.shuffled_batches(arrays(10), batch_size=3, seed=2)
  iterator = make()
  take(iterator, 5)
  state = iterator.get_state()
  expected = take(iterator, 6)
  resumed = make()
  resumed.set_state(state)
  np.testing.assert_array_equal(take(resumed, 6), expected)


def test_seeds_differ():
  orders = [
    take(batches.shuffled_batches(arrays(20), batch_size=20, seed=s), 1)
    for s in (0, 1)
  ]
  assert not np.array_equal(*orders)


def test_unequal_arrays_are_refused():
  with pytest.raises(ValueError, match='number of examples'):
    batches.shuffled_batches(
      {'a': np.zeros(3), 'b': np.zeros(4)}, batch_size=1, seed=0
    )


def test_digits_are_split_without_overlap():
  train, held_out = digits.load(held_out=360)
  assert train.images.shape == (1437, 8, 8, 1)
  assert held_out.images.shape == (360, 8, 8, 1)
  assert train.images.dtype == np.float32
  assert train.images.min() == 0 and train.images.max() == 1
  share = np.bincount(held_out.labels) / np.bincount(train.labels)
  np.testing.assert_allclose(share, 360 / 1437, rtol=0.05)
  again, _ = digits.load(held_out=360)
  np.testing.assert_array_equal(train.images, again.images)
