import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.convert import tree
from softdimo_jax.convert.tree import ConversionError, Rule


def shaped(*shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct(shape, dtype)


def ramp(*shape):
  return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def abstract(arrays):
  return {k: shaped(*v.shape, dtype=v.dtype) for k, v in arrays.items()}


RULES = (
  *tree.linear(r'(first|second)', r'net/\1'),
  *tree.conv(r'conv', 'conv'),
  *tree.norm(r'ln', 'ln'),
)
STATE = {
  'first.weight': ramp(3, 2),
  'first.bias': ramp(3),
  'second.weight': ramp(4, 3),
  'conv.weight': ramp(5, 2, 3, 1),
  'ln.weight': ramp(2),
  'ln.bias': ramp(2),
}
TARGET = {
  'net': {
    'first': {'kernel': shaped(2, 3), 'bias': shaped(3)},
    'second': {'kernel': shaped(3, 4)},
  },
  'conv': {'kernel': shaped(3, 1, 2, 5)},
  'ln': {'scale': shaped(2), 'bias': shaped(2)},
}


def test_layers_are_renamed_and_transposed():
  params, report = tree.convert(STATE, RULES, TARGET)
  assert jax.tree.structure(params) == jax.tree.structure(TARGET)
  x = ramp(7, 2)
  np.testing.assert_array_equal(
    x @ params['net']['first']['kernel'], x @ STATE['first.weight'].T
  )
  assert (
    params['conv']['kernel'][2, 0, 1, 4] == STATE['conv.weight'][4, 1, 2, 0]
  )
  np.testing.assert_array_equal(params['ln']['scale'], STATE['ln.weight'])
  assert set(report.used) == set(STATE)
  assert report.ignored == report.missing == report.unexpected == ()


def test_a_listing_of_shapes_converts_like_arrays():
  params, report = tree.convert(abstract(STATE), RULES, TARGET)
  assert params == TARGET
  assert set(report.used) == set(STATE)


def test_leaves_get_the_dtype_of_the_target():
  state = {k: v.astype(np.float16) for k, v in STATE.items()}
  for entries in (state, abstract(state)):
    params, _ = tree.convert(entries, RULES, TARGET)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {
      jnp.dtype('float32')
    }


LAYER_RULES = (Rule(r'layers\.(?P<layer>\d+)\.w', 'w', tree.linear_kernel),)


@pytest.mark.parametrize('make', [dict, abstract])
def test_entries_of_layers_stack_in_numeric_order(make):
  layers = {f'layers.{i}.w': ramp(3, 2) + i for i in reversed(range(11))}
  params, report = tree.convert(
    make(layers), LAYER_RULES, {'w': shaped(11, 2, 3)}
  )
  assert params['w'].shape == (11, 2, 3)
  assert len(report.used) == 11
  if make is dict:
    np.testing.assert_array_equal(params['w'][10], layers['layers.10.w'].T)


@pytest.mark.parametrize(
  ('present', 'missing'), [([0, 2], r'\[1\]'), ([0], r'\[1, 2\]')]
)
def test_a_missing_layer_is_an_error(present, missing):
  layers = {f'layers.{i}.w': ramp(3, 2) for i in present}
  with pytest.raises(ConversionError, match=f'sets layers {missing} of w'):
    tree.convert(layers, LAYER_RULES, {'w': shaped(3, 2, 3)})


ATTENTION_RULES = (
  Rule(
    r'h\.(?P<layer>\d+)\.in_proj_weight',
    ('query/kernel', 'key/kernel', 'value/kernel'),
    tree.split_rows(3, tree.linear_kernel),
  ),
  Rule(
    r'h\.(?P<layer>\d+)\.in_proj_bias',
    ('query/bias', 'key/bias', 'value/bias'),
    tree.split_rows(3),
  ),
)


@pytest.mark.parametrize('make', [dict, abstract])
def test_fused_attention_is_split_and_stacked(make):
  state = {}
  for i in range(2):
    state[f'h.{i}.in_proj_weight'] = ramp(12, 4) + 100 * i
    state[f'h.{i}.in_proj_bias'] = ramp(12) + 100 * i
  projection = {'kernel': shaped(2, 4, 4), 'bias': shaped(2, 4)}
  target = dict.fromkeys(('query', 'key', 'value'), projection)
  params, _ = tree.convert(make(state), ATTENTION_RULES, target)
  assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, target)
  if make is abstract:
    return
  x = ramp(5, 4)
  fused = x @ state['h.1.in_proj_weight'].T + state['h.1.in_proj_bias']
  key = x @ params['key']['kernel'][1] + params['key']['bias'][1]
  np.testing.assert_array_equal(key, fused[:, 4:8])


def test_ignorable_entries_are_ignored():
  state = STATE | {'loss.disc.weight': ramp(2)}
  _, report = tree.convert(state, RULES, TARGET, ignored=[r'loss\..*'])
  assert report.ignored == ('loss.disc.weight',)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'extra': ramp(1)}, 'no rule matches the official entries extra'),
    ({'ln.bias': None}, 'no official entry sets the parameters ln/bias'),
    ({'ln.bias': ramp(3)}, r'ln/bias has shape \(3,\), expected \(2,\)'),
    ({'conv.weight': ramp(3, 2)}, r'conv\.weight of shape \(3, 2\) cannot'),
    ({'second.bias': ramp(4)}, 'the target has no parameter net/second/bias'),
  ],
)
@pytest.mark.parametrize('make', [dict, abstract])
def test_what_does_not_fit_is_an_error(change, message, make):
  state = {k: v for k, v in (STATE | change).items() if v is not None}
  with pytest.raises(ConversionError, match=message):
    tree.convert(make(state), RULES, TARGET)


def test_weights_are_finite():
  for value in (np.nan, -np.inf):
    state = STATE | {'ln.bias': np.float32([0, value])}
    with pytest.raises(ConversionError, match=r'ln\.bias contains NaN or inf'):
      tree.convert(state, RULES, TARGET)


@pytest.mark.parametrize('make', [dict, abstract])
def test_weights_are_floating_point(make):
  state = STATE | {'ln.bias': np.int8([0, 1])}
  with pytest.raises(ConversionError, match=r'ln\.bias has dtype int8'):
    tree.convert(make(state), RULES, TARGET)


def test_an_entry_that_matches_two_rules_is_an_error():
  rules = (*RULES, Rule(r'ln\.bias', 'ln/scale'))
  with pytest.raises(ConversionError, match=r'ln\.bias matches two rules'):
    tree.convert(STATE, rules, TARGET)


@pytest.mark.parametrize('other', [r'other', r'other(?P<layer>\d+)'])
def test_a_leaf_that_two_entries_set_is_an_error(other):
  rules = (*RULES, Rule(other, 'ln/bias'))
  state = STATE | {other.replace(r'(?P<layer>\d+)', '0'): ramp(2)}
  with pytest.raises(ConversionError, match='sets ln/bias a second time'):
    tree.convert(state, rules, TARGET)


def test_without_strictness_the_report_lists_misfits():
  state = STATE | {'extra': ramp(1)}
  del state['ln.bias']
  params, report = tree.convert(state, RULES, TARGET, strict=False)
  assert report.missing == ('ln/bias',)
  assert report.unexpected == ('extra',)
  assert set(params['ln']) == {'scale'}
  with pytest.raises(ConversionError, match=r'extra; .* ln/bias') as caught:
    report.check()
  assert caught.value.report == report


def test_long_lists_of_names_are_shortened():
  with pytest.raises(ConversionError, match=r'a, b, c and 2 more$'):
    tree.convert(dict.fromkeys('abcde', ramp(1)), (), {})
