"""Which of several trees in a file becomes the state dict."""

import numpy as np
import pytest

from softdimo_jax.convert import state_dict
from softdimo_jax.convert.tree import ConversionError

ONE, TWO = np.float32([1]), np.float32([2])
RAW, MEAN = {'a.weight': ONE}, {'a.weight': TWO}
OPTIMIZER = {'state': {0: {'exp_avg': ONE}}, 'param_groups': [{'lr': 0.1}]}


def extract(content, tree=None, where='file.pth'):
  return state_dict.extract(content, np.ndarray, where, tree)


@pytest.mark.parametrize(
  'content',
  [
    {'state_dict': RAW, 'ema_state_dict': MEAN},
    {'params': RAW, 'params_ema': MEAN},
    {'model': RAW, 'model_ema': {'module': MEAN, 'decay': 0.9}},
    {'model': RAW, 'modelEMA': {'state_dict': MEAN}},
    {'model': RAW, 'ema': MEAN, 'optimizer': OPTIMIZER},
    {'state_dict': RAW, 'callbacks': {'EMA': {'ema_state_dict': MEAN}}},
    {'state_dict': RAW, 'ema_0.9999': MEAN, 'epoch': 3},
    {'g': RAW, 'd': RAW, 'g_ema': MEAN},
    {'ema': MEAN},
  ],
)
def test_averages_are_preferred(content):
  assert extract(content) == MEAN


@pytest.mark.parametrize(
  'content',
  [
    RAW,
    {'model_state_dict': RAW, 'iter': 5},
    {'net': RAW, 'epoch': 3},
    {'model': RAW, 'discriminator': MEAN},
    {'model': RAW, 'optimizer': OPTIMIZER, 'opt_state': {'ema_grad': MEAN}},
    {'model': RAW, 'schema': MEAN},
  ],
)
def test_weights_are_found(content):
  assert extract(content) == RAW


def test_what_is_left_out_is_said_once(caplog):
  content = {'model': RAW, 'ema': MEAN, 'optimizer': OPTIMIZER, 'epoch': 1}
  for _ in range(2):
    extract(content, where='said.pth')
  sentence = 'said.pth: reads the averages ema, and leaves out model, optimizer'
  assert caplog.text.count(sentence) == 1
  extract({'model': RAW, 'epoch': 1}, where='quiet.pth')
  assert 'quiet.pth' not in caplog.text


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ({'ema': MEAN, 'ema_fast': RAW}, r'several averages \(ema, ema_fast\)'),
    (
      {'model': RAW, 'state_dict': MEAN},
      r'trees \(state_dict, model\)',
    ),
    ({'model': {'a': RAW, 'b': MEAN}}, 'trees .model/a, model/b'),
    ({'generator': RAW, 'discriminator': MEAN}, 'several trees'),
    ({'model': RAW, 'ema': {'shadow_params': [TWO]}}, 'have no names'),
    ({'model': RAW, 'ema': [TWO]}, 'have no names'),
    ([RAW], 'not an object of type list'),
  ],
)
def test_what_is_not_clear_is_refused(content, message):
  with pytest.raises(ConversionError, match=message):
    extract(content)


def test_a_tree_can_be_chosen():
  content = {'model': RAW, 'ema': {'fast': MEAN}}
  assert extract(content, 'model') == RAW
  assert extract(content, 'ema/fast') == MEAN
  flat = {'student.a.weight': ONE, 'teacher.a.weight': TWO}
  for wrapped in (flat, {'state_dict': flat, 'epoch': 1}):
    assert extract(wrapped, 'teacher') == MEAN
  with pytest.raises(ConversionError, match='no --tree=x; its keys are model'):
    extract(content, 'x')


LIT = {'model_ema.decay': ONE, 'model_ema.num_updates': ONE}


@pytest.mark.parametrize('part', ['', 'model.'])
def test_averages_of_lit_ema(part, caplog):
  weights = {f'{part}a.b.weight': ONE, f'{part}a.b.steps': ONE}
  content = {'state_dict': weights | LIT | {'model_ema.abweight': TWO}}
  state_dict.say.cache_clear()
  expected = weights | {f'{part}a.b.weight': TWO}
  assert extract(content) == expected
  assert 'reads the averages model_ema' in caplog.text
  content['state_dict']['model_ema.other'] = TWO
  with pytest.raises(ConversionError, match='other belong to no'):
    extract(content)
