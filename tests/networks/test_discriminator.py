import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.networks.discriminator import DiscriminatorHeads

HEADS = DiscriminatorHeads(width=6, num_frequencies=3)
TAPS, BATCH, LENGTH, WIDTH = 2, 4, 5, 8
RATIO = jnp.array([0.0, 0.2, 0.7, 0.95])

score = jax.jit(
  lambda params, *inputs: HEADS.apply({'params': params}, *inputs)
)


def draw(seed):
  shape = (TAPS, BATCH, LENGTH, WIDTH)
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(scope='module')
def initial():
  init = jax.jit(lambda key: HEADS.init(key, draw(0), RATIO)['params'])
  return init(jax.random.key(0))


@pytest.fixture(scope='module')
def trained(initial):
  """Parameters as after some steps, none at its initial zero."""
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda leaf: leaf + 0.3 * rng.normal(size=leaf.shape).astype(np.float32),
    initial,
  )


def test_one_float32_logit_per_sample(trained):
  logits = score(trained, draw(0).astype(jnp.bfloat16), RATIO)
  assert logits.shape == (BATCH,)
  assert logits.dtype == jnp.float32
  np.testing.assert_allclose(
    logits, score(trained, draw(0), RATIO), rtol=0.05, atol=0.05
  )


def test_heads_have_their_own_parameters(initial):
  for leaf in jax.tree.leaves(initial):
    assert leaf.shape[0] == TAPS
  kernels = initial['heads']['in']['kernel']
  assert (kernels[0] != kernels[1]).all()


def test_logit_is_the_mean_over_positions(trained):
  hidden = draw(0)
  alone = [
    score(trained, np.repeat(hidden[:, :, [index]], LENGTH, axis=2), RATIO)
    for index in range(LENGTH)
  ]
  np.testing.assert_allclose(
    score(trained, hidden, RATIO), np.mean(alone, 0), rtol=1e-5, atol=1e-6
  )


def test_logit_is_the_mean_over_heads(trained):
  hidden = draw(0)
  alone = []
  for index in range(TAPS):
    only = np.array([index, index])
    params = jax.tree.map(lambda leaf, i=only: leaf[i], trained)
    alone.append(score(params, hidden[only], RATIO))
  np.testing.assert_allclose(
    score(trained, hidden, RATIO), np.mean(alone, 0), rtol=1e-5, atol=1e-6
  )


def test_samples_do_not_see_each_other(trained):
  hidden = draw(0)
  other = hidden.copy()
  other[:, 1:] = draw(5)[:, 1:]
  a, b = score(trained, hidden, RATIO), score(trained, other, RATIO)
  np.testing.assert_allclose(a[0], b[0], rtol=1e-6)
  assert (np.abs(a - b)[1:] > 1e-3).all()


def test_scale_of_the_features_does_not_matter(trained):
  np.testing.assert_allclose(
    score(trained, 100 * draw(0), RATIO),
    score(trained, draw(0), RATIO),
    rtol=1e-3,
    atol=1e-4,
  )


def test_mask_ratio_matters_once_trained(initial, trained):
  """FiLM starts as the identity and learns from the first step."""
  other = RATIO[::-1]
  np.testing.assert_allclose(
    score(initial, draw(0), RATIO), score(initial, draw(0), other), rtol=1e-6
  )
  difference = score(trained, draw(0), RATIO) - score(trained, draw(0), other)
  assert (np.abs(difference) > 1e-4).all()


def test_every_parameter_and_feature_gets_a_gradient(initial):
  loss = lambda params, hidden: (score(params, hidden, RATIO) ** 2).sum()
  to_params, to_hidden = jax.jit(jax.grad(loss, argnums=(0, 1)))(
    initial, draw(0)
  )
  for path, leaf in jax.tree.leaves_with_path(to_params):
    # Before FiLM has left zero, only its own parameters can move it.
    assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)
  assert (np.abs(to_hidden).max(-1) > 0).all()
