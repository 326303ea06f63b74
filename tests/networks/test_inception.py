"""Inception: parity, and properties that fixtures do not cover."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.convert.rule_weights import rule_params
from softdimo_jax.networks import inception
from softdimo_jax.networks import inception_blocks as blocks
from softdimo_jax.networks.inception import Inception
from softdimo_jax.parity import fixture
from tests.golden import parity

TINY = Inception(width=2, num_classes=11, resolution=75)
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 40, 52, 3), np.uint8)


@pytest.fixture(scope='module')
def variables():
  """Variables, drawn without compiling and scaled to preserve the signal."""
  shapes = jax.eval_shape(TINY.init, jax.random.key(0), PIXELS)
  return jax.tree.map(
    lambda x: 1.5 * x if x.ndim == 4 else x, rule_params(shapes)
  )


@pytest.fixture(scope='module')
def apply():
  """The network, compiled once for all tests, with batches of two."""
  return jax.jit(functools.partial(TINY.apply, capture_intermediates=True))


@pytest.mark.parametrize('name', ['fid_inception', 'fid_inception_gain'])
def test_parity(name):
  parity.check(name)


@pytest.mark.parametrize('name', ['fid_inception', 'fid_inception_gain'])
def test_every_array_but_the_images_is_compared(name):
  loaded = fixture.load(parity.GOLDEN, name)
  rest = set(loaded.arrays) - set(loaded.outputs)
  assert rest == {'a_images', 'b_images'}
  assert {loaded.tolerance(output) for output in loaded.outputs} == {1e-5}


def test_the_defaults_are_those_of_the_released_network():
  output, variables = jax.eval_shape(
    Inception().init_with_output,
    jax.random.key(0),
    jax.ShapeDtypeStruct((3, 64, 48, 3), jnp.uint8),
  )
  assert sum(x.size for x in jax.tree.leaves(variables)) == 23_885_392
  assert output.pool.shape == (3, 2048)
  assert output.spatial.shape == (3, 2023)
  assert output.logits.shape == output.biased_logits.shape == (3, 1008)
  assert {x.dtype for x in jax.tree.leaves(output)} == {jnp.dtype('float32')}


def test_outputs_have_the_named_contents(variables, apply):
  params = variables['params'] | {'fc_bias': jnp.arange(11.0)}
  output, state = apply({'params': params}, PIXELS)
  inner = state['intermediates']
  spatial = inner['Mixed_6d']['__call__'][0][..., :7].reshape(2, -1)
  np.testing.assert_array_equal(output.spatial, spatial)
  pool = inner['Mixed_7c']['__call__'][0].mean((1, 2))
  np.testing.assert_allclose(output.pool, pool, rtol=1e-6)
  kernel = variables['params']['fc']['kernel']
  np.testing.assert_allclose(output.logits, pool @ kernel, rtol=1e-4, atol=1e-5)
  bias = output.biased_logits - output.logits
  np.testing.assert_allclose(bias, np.tile(np.arange(11.0), (2, 1)), atol=1e-5)


def test_images_do_not_influence_each_other(variables, apply):
  both = apply(variables, PIXELS)[0]
  other = apply(variables, np.stack([PIXELS[1], PIXELS[1]]))[0]
  for x, y in zip(jax.tree.leaves(both), jax.tree.leaves(other), strict=True):
    np.testing.assert_array_equal(x[1], y[1])
    assert np.abs(x[0] - y[0]).max() > 1e-4


def test_pixels_are_resized_from_the_corner_and_scaled():
  pixels = np.array([[0, 128], [255, 64]], np.uint8)[None, :, :, None]
  pixels = np.repeat(pixels, 3, -1)
  prepared = inception.prepare(pixels, 4)
  assert prepared.dtype == jnp.float32
  expected = [
    [0, 64, 128, 128],
    [127.5, 111.75, 96, 96],
    [255, 159.5, 64, 64],
    [255, 159.5, 64, 64],
  ]
  result = 128 * prepared[0, ..., 0] + 128
  np.testing.assert_allclose(result, expected, atol=1e-4)


def windows(x):
  """Every 3 x 3 window of [H, W], NaN outside."""
  padded = np.pad(x, 1, constant_values=np.nan)
  return np.lib.stride_tricks.sliding_window_view(padded, (3, 3))


def test_pools_leave_the_padding_out():
  x = -np.random.default_rng(0).random((5, 4)).astype(np.float32)
  for pool, expected in (
    (blocks.average_pool_same, np.nanmean(windows(x), (2, 3))),
    (blocks.max_pool_same, np.nanmax(windows(x), (2, 3))),
  ):
    result = pool(x[None, :, :, None])[0, ..., 0]
    np.testing.assert_allclose(result, expected, rtol=1e-6)
  result = blocks.max_pool(x[None, :, :, None])[0, ..., 0]
  np.testing.assert_array_equal(result, [[x[:3, :3].max()], [x[2:, :3].max()]])


def test_the_last_block_alone_pools_by_maximum(variables, apply):
  inner = apply(variables, PIXELS)[1]['intermediates']
  unit = functools.partial(blocks.Unit, width=2)
  x = inner['Mixed_7a']['__call__'][0]
  for name, pool in (
    ('Mixed_7b', blocks.average_pool_same),
    ('Mixed_7c', blocks.max_pool_same),
  ):
    params = {'params': variables['params'][name]}
    result = blocks.Grid8(unit, pool).apply(params, x)
    expected = inner[name]['__call__'][0]
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    x = expected


def test_the_norm_is_that_of_the_formula():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 3, 3, 4)).astype(np.float32)
  mean, scale, bias = rng.normal(size=(3, 4)).astype(np.float32)
  variance = rng.random(4).astype(np.float32) / 1000  # epsilon matters
  params = {
    'scale': scale,
    'bias': bias,
    'running_mean': mean,
    'running_var': variance,
  }
  result = blocks.FrozenBatchNorm().apply({'params': params}, x)
  expected = (x - mean) / np.sqrt(variance + 1e-3) * scale + bias
  np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
  ('options', 'shape', 'message'),
  [
    ({'width': 3}, (1, 75, 75, 3), 'width 3 is not a multiple of 2'),
    ({'resolution': 74}, (1, 74, 74, 3), '74 is below 75'),
    ({}, (1, 75, 76, 3), r'not \[B, 75, 75, 3\]'),
    ({}, (75, 75, 3), r'not \[B, 75, 75, 3\]'),
  ],
)
def test_bad_inputs_are_refused(options, shape, message):
  module = TINY.clone(**options)
  init = functools.partial(module.init, method='features')
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(
      init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32)
    )


@pytest.mark.parametrize('shape', [(75, 75, 3), (2, 75, 75, 1)])
def test_bad_images_are_refused(shape):
  with pytest.raises(ValueError, match=r'not \[B, H, W, 3\]'):
    jax.eval_shape(
      TINY.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.uint8)
    )
