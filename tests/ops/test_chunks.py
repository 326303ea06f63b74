"""Functions of positions in chunks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.method import divergence
from softdimo_jax.ops.chunks import map_positions


def draw(seed, *shape):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=shape), jnp.float32)


@pytest.mark.parametrize('size', [0, 1, 3, 6])
def test_values_and_gradients_do_not_depend_on_the_size(size):
  """Nor on how many samples an argument has."""
  x, y, positions = draw(0, 2, 6, 4), draw(1, 4, 6), jnp.arange(6.0)[None]

  def function(x, y, positions, kernel):
    z = jnp.tanh(x @ kernel) * positions[0][:, None]
    return z, y.sum(0, keepdims=True) * z[:1, :, 0]

  def run(size):
    def loss(x, kernel):
      parts = map_positions(
        lambda *arrays: function(*arrays, kernel), size, x, y, positions
      )
      return sum((part**2).sum() for part in parts), parts

    return jax.grad(loss, (0, 1), has_aux=True)(x, draw(2, 4, 3))

  for ours, plain in zip(
    jax.tree.leaves(run(size)), jax.tree.leaves(run(0)), strict=True
  ):
    np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)


def test_chunks_have_to_divide():
  with pytest.raises(ValueError, match='chunks of 4 do not divide 6 positions'):
    map_positions(lambda x: x, 4, jnp.zeros((1, 6)))


@pytest.mark.parametrize('beta', [0.0, 0.3])
def test_the_divergence_at_meissonics_size_fits(beta):
  """4096 tokens of 8192 codes: guided pair, auxiliary, and its own loss."""
  length, codes, width, scale = 4096, 8192, 16, 4.0

  def run(size, pair, auxiliary, kernel, tokens, weight):
    logits = lambda last: (last @ kernel)[:, :, None]

    def injected(pair, auxiliary, weight):
      guided = divergence.guide(*jnp.split(logits(pair), 2), scale)
      target = divergence.logit_gradient(guided, logits(auxiliary), beta=beta)
      return divergence.injected(target, weight)

    def loss(auxiliary):
      losses = map_positions(
        lambda last, tokens: divergence.cross_entropy(
          logits(last), tokens, label_smoothing=0.1
        ),
        size,
        auxiliary,
        tokens,
      )
      return divergence.masked_mean(losses, weight > 0)

    gradient, *entries = map_positions(injected, size, pair, auxiliary, weight)
    return (
      gradient,
      divergence.dimo_metrics(*entries, weight),
      jax.value_and_grad(loss)(auxiliary),
    )

  def arguments(length, codes):
    tokens = np.random.default_rng(3).integers(0, codes, (1, length, 1))
    return (
      draw(0, 2, length, width),
      draw(1, 1, length, width),
      draw(2, width, codes),
      jnp.asarray(tokens),
      jnp.asarray(tokens % 2, jnp.float32),
    )

  def temporaries(size):
    lowered = jax.jit(run, static_argnums=0).lower(
      size, *jax.eval_shape(lambda: arguments(length, codes))
    )
    return lowered.compile().memory_analysis().temp_size_in_bytes

  assert temporaries(256) < temporaries(0) / 4
  small = arguments(64, 32)
  plain, chunked = (jax.jit(run, static_argnums=0)(n, *small) for n in (0, 16))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max()
    ),
    chunked,
    plain,
  )
