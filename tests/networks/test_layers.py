import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.networks import layers, transformer

# Compiling takes longer than running, so LLVM's expensive passes are off.
quick_jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)

BLOCK = {'num_heads': 2, 'mlp_width': 12}
DEPTH = 3


def inputs():
  return jax.random.normal(jax.random.key(1), (2, 5, 8))


@pytest.fixture(scope='module')
def params():
  module = layers.scan_blocks(transformer.Block, DEPTH)(**BLOCK)
  shapes = jax.eval_shape(module.init, jax.random.key(0), inputs(), None)
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype),
    shapes['params'],
  )


def gradient(params, **options):
  """Gradient of a loss on all outputs, and the outputs of all blocks."""
  module = layers.scan_blocks(transformer.Block, DEPTH, **options)(**BLOCK)

  def loss(params):
    x, hidden = module.apply({'params': params}, inputs(), None)
    return (x**3).mean() + (hidden**2).mean(), hidden

  return quick_jit(jax.grad(loss, has_aux=True))(params)


@pytest.fixture(scope='module')
def reference(params):
  return gradient(params)


def test_scanned_blocks_equal_a_loop_over_blocks(params, reference):
  x = inputs()
  block = quick_jit(transformer.Block(**BLOCK).apply)
  for index, hidden in enumerate(reference[1]):
    own = jax.tree.map(lambda leaf, index=index: leaf[index], params)
    x, _ = block({'params': own}, x, None)
    np.testing.assert_allclose(hidden, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
  'options', [{'remat': 'full'}, {'remat': 'dots', 'unroll': DEPTH}], ids=str
)
def test_remat_and_unrolling_change_nothing(params, reference, options):
  # Relative to the largest gradient, because that of the keys' biases is only
  # rounding: the softmax is invariant to them.
  largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(reference))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-3, atol=1e-5 * largest
    ),
    gradient(params, **options),
    reference,
  )


def test_each_layer_draws_its_own_parameters_and_dropout():
  module = layers.scan_blocks(transformer.Block, 2)(
    **BLOCK, dropout=0.5, deterministic=False
  )
  keys = {'params': jax.random.key(0), 'dropout': jax.random.key(1)}

  @quick_jit
  def run():
    params = module.init(keys, inputs(), None)['params']
    # Only the MLP's output bias reaches the output, so a layer adds 0 exactly
    # where its dropout acts.
    silent = jax.tree.map(jnp.zeros_like, params)
    silent['mlp_out']['bias'] += 1
    x = jnp.zeros((2, 5, 8))
    _, hidden = module.apply({'params': silent}, x, None, rngs=keys)
    return params, hidden

  params, hidden = run()
  kernels = params['mlp_in']['kernel']
  assert (kernels[0] != kernels[1]).mean() > 0.9
  dropped = np.stack([hidden[0], hidden[1] - hidden[0]]) == 0
  assert 0.2 < dropped.mean() < 0.8
  assert (dropped[0] != dropped[1]).any()


def test_layer_norm_keeps_precision_on_rows_of_low_variance():
  """The one-pass variance would be 0 or negative here."""
  rng = np.random.default_rng(0)
  x = 100 + 1e-3 * rng.normal(size=(4, 64))
  x = x.astype(np.float32)
  norm = layers.LayerNorm(1e-12)
  y = norm.apply(norm.init(jax.random.key(0), x), x)
  exact = x.astype(np.float64)
  exact = (exact - exact.mean(-1, keepdims=True)) / exact.std(-1, keepdims=True)
  np.testing.assert_allclose(y, exact, rtol=0.05, atol=0.05)


def test_layer_norm_statistics_are_float32():
  """A mean rounded to bfloat16 would be off by up to 0.25."""
  norm = layers.LayerNorm(1e-5, jnp.bfloat16)
  x = 100.2 + 4 * jax.random.normal(jax.random.key(0), (8, 512))
  x = x.astype(jnp.bfloat16)
  y = norm.apply(norm.init(jax.random.key(0), x), x)
  assert y.dtype == jnp.bfloat16
  exact = np.asarray(x, np.float64)
  exact = (exact - exact.mean(-1, keepdims=True)) / exact.std(-1, keepdims=True)
  np.testing.assert_allclose(np.asarray(y, float), exact, rtol=0.01, atol=0.002)


def test_matrix_products_run_in_the_given_dtype():
  x, kernel = jnp.ones((2, 3, 4)), jnp.full((4, 5), 1 + 2**-12)
  y = layers.matmul_2d(x, kernel, jnp.bfloat16)
  assert y.shape == (2, 3, 5)
  assert y.dtype == jnp.bfloat16
  np.testing.assert_array_equal(y, 4)  # 2^-12 is below bfloat16's step
  assert (layers.matmul_2d(x, kernel, jnp.float32) > 4).all()


@pytest.mark.parametrize('width', [16, 256])
def test_initial_scales_are_those_of_torch(width):
  key = jax.random.key(0)
  linear = layers.torch_linear_init(key, (width, 400))
  bound = width**-0.5
  assert bound * 0.99 < np.abs(linear).max() <= bound
  # A [3 D, D] Xavier-uniform draw: sqrt(6 / (D + 3 D)).
  attention = layers.xavier_stacked(key, (width, width))
  bound = (6 / (4 * width)) ** 0.5
  assert bound * 0.95 < np.abs(attention).max() <= bound


@pytest.mark.parametrize('causal', [False, True])
def test_the_fused_attention_is_asked_for_the_same(monkeypatch, causal):
  """XLA computes the same from its operands, where there is no cuDNN."""
  fused, asked = jax.nn.dot_product_attention, []

  def stand_in(*operands, implementation, **options):
    asked.append(implementation)
    return fused(*operands, implementation='xla', **options)

  monkeypatch.setattr(jax.nn, 'dot_product_attention', stand_in)
  mask = jnp.arange(5) < jnp.array([[5], [3]])
  run = lambda attention, **options: transformer.SelfAttention(
    2, causal=causal, attention=attention, **options
  )
  variables = run('xla').init(
    jax.random.key(0), inputs(), mask, deterministic=True
  )
  ours, theirs = (
    run(name).apply(variables, inputs(), mask, deterministic=True)
    for name in ('xla', 'cudnn')
  )
  assert asked == ['cudnn']
  np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-6)
  with pytest.raises(ValueError, match='does not support dropout'):
    run('cudnn', dropout=0.1).apply(variables, inputs(), deterministic=False)


def test_gelu_is_the_exact_one_in_both_precisions():
  x = np.linspace(-6, 6, 97, dtype=np.float32)
  exact = np.array([t * (1 + math.erf(t / math.sqrt(2))) / 2 for t in x])
  np.testing.assert_allclose(layers.gelu(jnp.asarray(x)), exact, atol=1e-6)
  half = layers.gelu(jnp.asarray(x, jnp.bfloat16))
  assert half.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    half.astype(jnp.float32), exact, rtol=2**-5, atol=1e-6
  )
