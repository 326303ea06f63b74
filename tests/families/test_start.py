"""The draws of x_init in training and in sampling."""

import jax
import ml_collections
import numpy as np
import pytest

from softdimo_jax.families.start import Start

KEY = jax.random.key(0)


def init(**changes):
  fields = {
    'mask_ratio': 0.2,
    'max_mask_ratio': None,
    'noise_scale': 0.5,
    'noise_ramp': '',
    'noise_ramp_steps': 10,
    'noise_unit': 'table',
  }
  return ml_collections.FrozenConfigDict(fields | changes)


def test_without_a_range_and_a_ramp_nothing_is_drawn():
  expected = Start(0.2, 0.5, 'table')
  assert Start.in_training(init(), KEY, 3) == expected
  assert Start.in_sampling(init()) == expected
  assert type(Start.in_training(init(), KEY, 3).mask_ratio) is float


def test_the_ratio_is_uniform_in_its_range():
  config = init(max_mask_ratio=0.8)
  ratios = jax.vmap(lambda key: Start.in_training(config, key, 0).mask_ratio)(
    jax.random.split(KEY, 2000)
  )
  assert ratios.min() >= 0.2
  assert ratios.max() < 0.8
  np.testing.assert_allclose(ratios.mean(), 0.5, atol=0.02)
  np.testing.assert_allclose(ratios.std(), 0.6 / 12**0.5, atol=0.01)
  assert Start.in_sampling(config).mask_ratio == 0.5


@pytest.mark.parametrize('ramp', ['linear', 'cos', 'exp'])
def test_the_noise_grows_to_its_scale(ramp):
  config = init(noise_ramp=ramp)
  scales = [
    float(Start.in_training(config, KEY, step).noise_scale)
    for step in (0, 5, 10, 1000)
  ]
  half = {'linear': 0.25, 'cos': 0.25, 'exp': 0.5 * (1 - np.exp(-0.5))}
  np.testing.assert_allclose(scales[:2], [0, half[ramp]], atol=1e-6)
  np.testing.assert_allclose(scales[3], 0.5, rtol=1e-6)
  assert Start.in_sampling(config).noise_scale == 0.5
