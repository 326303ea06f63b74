import jax
import numpy as np

from softdimo_jax.convert.rule_weights import (
  rule_params,
  rule_state_dict,
  rule_weight,
)

LISTING = [
  ('block.weight', [64, 32], 'float32'),
  ('block.bias', [64], 'float32'),
  ('norm.weight', [64], 'float32'),
  ('norm.running_var', [64], 'float32'),
  ('buffer', [64], 'float32'),
  ('counter', [], 'int64'),
]


def test_weights_depend_on_name_and_shape_alone():
  first = rule_weight('a.weight', (8, 4))
  np.testing.assert_array_equal(first, rule_weight('a.weight', (8, 4)))
  assert first.dtype == np.float32
  assert (first != rule_weight('b.weight', (8, 4))).all()


def test_matrices_keep_the_scale_of_activations():
  for shape in ((256, 400), (16, 100, 3, 3)):
    weight = rule_weight('w', shape)
    assert abs(weight.std() * np.prod(shape[1:]) ** 0.5 - 1) < 0.03


def test_vectors_are_around_one_or_zero():
  state = rule_state_dict(LISTING)
  assert abs(state['norm.weight'].mean() - 1) < 0.05
  assert abs(state['block.bias'].mean()) < 0.05
  assert state['norm.running_var'].min() >= 1


def test_options_of_a_listing():
  plain = rule_state_dict(LISTING)
  assert set(plain) == {name for name, _, _ in LISTING} - {'counter'}
  state = rule_state_dict(
    LISTING,
    kept=['buffer'],
    tied={'norm.weight': 'block.bias'},
    gain={'min_ndim': 2, 'factor': 3},
    factors={'norm.running_var': 0.5},
  )
  assert set(state) == set(plain) - {'buffer'}
  np.testing.assert_array_equal(state['norm.weight'], plain['block.bias'])
  np.testing.assert_array_equal(
    state['block.weight'], 3 * plain['block.weight']
  )
  np.testing.assert_array_equal(
    state['norm.running_var'], plain['norm.running_var'] / 2
  )
  np.testing.assert_array_equal(state['block.bias'], plain['block.bias'])


def test_stacked_layers_are_drawn_one_by_one():
  shape = jax.ShapeDtypeStruct((3, 400, 8), np.float32)
  params = rule_params(
    {'a': {'kernel': shape}, 'joint_layers': {'kernel': shape}}
  )
  layers = params['joint_layers']['kernel']
  for layer, scale in zip(layers, layers.std((1, 2)), strict=True):
    assert abs(scale * 400**0.5 - 1) < 0.05
    assert layer.shape == (400, 8)
  # Elsewhere all axes but the last count as inputs.
  assert abs(params['a']['kernel'].std() * 1200**0.5 - 1) < 0.05


def test_rule_params_follow_the_rule():
  shape = jax.ShapeDtypeStruct((3, 4), np.float32)
  stacked = jax.ShapeDtypeStruct((2, 3, 4), np.float32)
  params = rule_params(
    {'a': {'kernel': shape}, 'layers': {'kernel': stacked}, 'table': shape}
  )
  kernel = rule_weight('a/kernel', (4, 3)).T
  np.testing.assert_array_equal(params['a']['kernel'], kernel)
  np.testing.assert_array_equal(params['table'], rule_weight('table', (3, 4)))
  layer = rule_weight('layers/kernel/1', (4, 3)).T
  np.testing.assert_array_equal(params['layers']['kernel'][1], layer)
