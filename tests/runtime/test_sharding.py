"""Where arrays lie; that a mesh changes nothing is in test_spread.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from softdimo_jax.runtime import sharding

SIZES = {'data': 2, 'fsdp': 4, 'tensor': 2}
COLUMNS, ROWS = (None, 'fsdp', 'tensor'), (None, 'tensor', 'fsdp')


@pytest.mark.parametrize(
  ('config', 'devices', 'expected'),
  [
    (None, 8, (8, 1, 1)),
    ({'data': -1, 'fsdp': 4}, 8, (2, 4, 1)),
    ({'fsdp': -1, 'tensor': 2}, 8, (1, 4, 2)),
    ({'data': 2, 'fsdp': 2, 'tensor': 2}, 8, (2, 2, 2)),
  ],
)
def test_mesh_uses_all_devices(config, devices, expected):
  assert tuple(sharding.mesh_shape(config, devices).values()) == expected


@pytest.mark.parametrize(
  'config',
  [
    {'data': 3},
    {'data': -1, 'fsdp': 3},
    {'data': -1, 'fsdp': -1},
    {'data': 0},
    {'data': -2},
    {'data': 16},
  ],
)
def test_mesh_that_does_not_fit_is_refused(config):
  with pytest.raises(ValueError, match='data:'):
    sharding.mesh_shape(config, 8)


@pytest.mark.parametrize(
  ('path', 'shape', 'expected'),
  [
    ('model/params/layers/attention/key/kernel', (24, 64, 64), COLUMNS),
    ('model/ema/layers/attention/out/kernel', (24, 64, 64), ROWS),
    ('model/opt_state/1/0/mu/layers/mlp_in/kernel', (24, 64, 256), COLUMNS),
    ('teacher/layers/mlp_out/kernel', (24, 256, 64), ROWS),
    ('model/params/layers/mlp_in/bias', (24, 256), ()),
    ('model/params/first_norm/scale', (64,), ()),
    ('teacher/tok_emb', (2026, 768), ('tensor', 'fsdp')),
    ('teacher/class_emb', (1001, 64), (None, 'fsdp')),
    ('discriminator/heads/out/kernel', (4, 192, 1), (None, 'fsdp', None)),
    ('tokenizer/conv/kernel', (3, 3, 64, 128), (None, None, None, 'fsdp')),
    ('teacher/layers/mlp_in/kernel', (3, 5, 7), (None, None, None)),
    ('step', (), ()),
  ],
)  # fmt: skip
def test_rules(path, shape, expected):
  assert sharding.spec(path, shape, SIZES) == P(*expected)


def test_batch_that_does_not_divide_is_refused():
  sharding.check_batch('batch_size', 24, 4, 2)
  with pytest.raises(ValueError, match='multiple of 8'):
    sharding.check_batch('batch_size', 12, 4, 2)


def test_one_process_reads_all_rows():
  assert sharding.process_rows(sharding.make_mesh(), 8) is None


def test_arrays_of_the_host_arrive_whole():
  mesh = sharding.make_mesh()
  tree = {'a': np.arange(6.0).reshape(2, 3), 'key': jax.random.key(3)}
  placed = sharding.place(tree, mesh)
  np.testing.assert_array_equal(placed['a'], tree['a'])
  assert (jax.random.key_data(placed['key']) == jnp.array([0, 3])).all()
