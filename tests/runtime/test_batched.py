"""Padded batches: order, trees, padding, keys and devices."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.runtime import batched
from softdimo_jax.runtime.batched import Batched
from tests.processes import environment

PARAMS = {'scale': np.float32(3)}


def scaled(params, items):
  """A tree in, another tree out; every item for itself."""
  return {
    'sum': params['scale'] * items['x'].sum(-1) + items['y'],
    'pair': (items['x'] * params['scale'], items['y']),
  }


def noisy(params, items):
  keys, x = items
  draw = lambda key: jax.random.normal(key, x.shape[1:])
  return x + params['scale'] * jax.vmap(draw)(keys)


def numbered(count):
  rng = np.random.default_rng(count)
  return {
    'x': rng.normal(size=(count, 3)).astype(np.float32),
    'y': np.arange(count, dtype=np.int32),
  }


@pytest.mark.parametrize('count', [1, 4, 8, 11])
def test_trees_keep_their_order_and_lose_the_padding(count):
  items = numbered(count)
  found = Batched(scaled)(PARAMS, items, 4)
  expected = scaled(PARAMS, items)
  assert jax.tree.structure(found) == jax.tree.structure(expected)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected
  )
  assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(found))


def test_every_batch_has_the_compiled_size():
  traced = []

  def function(params, items):
    traced.append(items['y'].shape)
    return items['y']

  run = Batched(function)
  for count in (11, 3):
    run(PARAMS, numbered(count), 4)
  assert traced == [(4,)]


def test_padding_is_made_of_items():
  """Zeros might not be a valid item."""
  found = Batched(lambda params, x: jnp.full_like(x, x.min()))
  items = np.array([5, 6, 7, 8, 9, 10], np.int32)
  assert found(PARAMS, items, 4).tolist() == [5, 5, 5, 5, 9, 9]


def keyed():
  """Seven items with keys."""
  return jax.random.split(jax.random.key(5), 7), np.zeros((7, 2), np.float32)


def draws():
  """Of one device in one batch; other batches and devices draw the same."""
  return jax.jit(noisy)(PARAMS, keyed())


def test_keys_are_items():
  found = Batched(noisy)(PARAMS, keyed(), 3)
  np.testing.assert_array_equal(found, draws())


def test_items_of_different_numbers_are_refused():
  items = np.zeros(3), np.zeros(4)
  with pytest.raises(ValueError, match=r'different numbers: \[3, 4\]'):
    Batched(scaled)(PARAMS, items, 4)


def test_a_stream_takes_batches_of_any_length_and_stays_one_ahead():
  events = []

  def batches():
    for count in (2, 4, 1):
      events.append(f'read {count}')
      yield np.arange(count)

  for part in Batched(lambda params, x: x).stream(PARAMS, batches(), 4):
    events.append(f'got {len(part)}')
  assert events == ['read 2', 'read 4', 'got 2', 'read 1', 'got 4', 'got 1']
  assert not list(Batched(scaled).stream(PARAMS, [], 4))


def test_sizes_below_one_are_refused():
  with pytest.raises(ValueError, match='batch_size must be at least 1, got 0'):
    batched.split_size(0)


def test_several_devices_share_a_batch():
  """In a process of its own: what one device computes, four share."""
  script = (
    'import jax, numpy as np\n'
    'from unittest import mock\n'
    'from softdimo_jax.runtime import batched\n'
    'from tests.runtime import test_batched as t\n'
    'assert batched.split_size(5) == batched.split_size(8) == 8\n'
    'items, fetched, get = t.numbered(19), [], jax.device_get\n'
    'run = batched.Batched(t.scaled)\n'
    'spy = lambda x: fetched.append(x) or get(x)\n'
    "with mock.patch.object(jax, 'device_get', spy):\n"
    '  found = run(t.PARAMS, items, 5)\n'
    'expected = t.scaled(t.PARAMS, items)\n'
    'for x, y in zip(*map(jax.tree.leaves, (found, expected))):\n'
    '  np.testing.assert_allclose(x, y, rtol=1e-6)\n'
    'assert len(fetched) == 3\n'
    'draws = batched.Batched(t.noisy)(t.PARAMS, t.keyed(), 3)\n'
    'np.testing.assert_array_equal(draws, t.draws())\n'
    'for leaf in jax.tree.leaves(fetched):\n'
    '  shards = [shard.data.shape[0] for shard in leaf.addressable_shards]\n'
    '  assert shards == [2] * 4, shards\n'
  )
  result = subprocess.run(
    [sys.executable, '-c', script],
    env=environment(devices=4),
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr[-2000:]
