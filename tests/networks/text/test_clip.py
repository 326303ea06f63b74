"""CLIP's text tower: parity, and properties that fixtures do not cover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.networks.text.clip import CLIPTextTower
from tests.golden import parity

TINY = CLIPTextTower(
  vocab_size=9, length=6, width=8, depth=2, num_heads=2, mlp_width=16,
  projection_width=4,
)  # fmt: skip
IDS = jnp.array([[7, 1, 2, 8, 0, 0], [7, 3, 8, 5, 8, 8]])


@pytest.fixture(scope='module')
def variables():
  shapes = jax.eval_shape(TINY.init, jax.random.key(0), IDS)
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), shapes
  )


@pytest.mark.parametrize(
  'name', ['clip_text', 'clip_text_quick', 'openclip_text']
)
def test_parity(name):
  parity.check(name)


def test_features_do_not_look_ahead_but_padding_counts(variables):
  before = TINY.apply(variables, IDS)
  after = TINY.apply(variables, IDS.at[:, 4].set(6))
  same = np.isclose(before.final, after.final, atol=1e-6).all(-1)
  np.testing.assert_array_equal(same[:, :4], True)
  np.testing.assert_array_equal(same[:, 4:], False)


def test_masked_padding_does_not_change_earlier_positions(variables):
  mask = jnp.arange(6) < jnp.array([[4], [6]])
  run = jax.jit(TINY.apply)
  free, masked = run(variables, IDS), run(variables, IDS, mask)
  np.testing.assert_allclose(masked.pooled, free.pooled, rtol=1e-5)
  np.testing.assert_allclose(masked.final[1], free.final[1], rtol=1e-5)
  np.testing.assert_allclose(masked.final[0, :4], free.final[0, :4], rtol=1e-5)
  assert np.abs(masked.final[0, 4:] - free.final[0, 4:]).max(-1).min() > 0.05
  other = run(variables, IDS.at[0, 4].set(6), mask)
  np.testing.assert_allclose(other.final[0, 5], masked.final[0, 5], rtol=1e-5)


def test_prompts_end_at_the_first_end_token(variables):
  largest = TINY.apply(variables, IDS)
  np.testing.assert_array_equal(largest.end, [3, 2])
  named = TINY.clone(end_token=5).apply(variables, IDS)
  np.testing.assert_array_equal(named.end, [0, 3])  # 0 where there is none
  states = largest.final[jnp.arange(2), largest.end]
  projection = variables['params']['projection']
  np.testing.assert_allclose(largest.pooled, states @ projection, rtol=1e-5)


def test_short_prompts_read_the_first_positions(variables):
  whole = TINY.apply(variables, IDS)
  short = TINY.apply(variables, IDS[:, :4])
  np.testing.assert_allclose(short.final, whole.final[:, :4], rtol=1e-5)
  with pytest.raises(ValueError, match='7 tokens, more than the 6'):
    TINY.apply(variables, jnp.zeros((1, 7), jnp.int32))


def test_bfloat16_keeps_float32_parameters_and_pooled_features(variables):
  module = TINY.clone(dtype=jnp.bfloat16, remat='full')
  output, shapes = jax.eval_shape(
    module.init_with_output, jax.random.key(0), IDS
  )
  assert output.hidden.shape == (3, 2, 6, 8)
  assert output.final.shape == (2, 6, 8)
  assert output.hidden.dtype == output.final.dtype == jnp.bfloat16
  assert output.pooled.shape == (2, 4)
  assert output.pooled.dtype == jnp.float32
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(shapes))
  exact, rounded = TINY.apply(variables, IDS), module.apply(variables, IDS)
  np.testing.assert_allclose(rounded.pooled, exact.pooled, rtol=0.2, atol=0.2)
