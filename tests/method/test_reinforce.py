import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.method.reinforce import reinforce_loss

LOGITS = jnp.array([0.3, -0.8, 1.1])  # of one entry, shared by the batch
REWARD = jnp.array([1.0, 4.0, -2.0])  # of each code


def loss(logits, tokens, rewards, temperature=1.0):
  """Loss of a batch whose samples share the logits of their one entry."""
  batch = tokens.shape[0]
  logits = jnp.broadcast_to(logits, (batch, 1, 1, 3))
  return reinforce_loss(
    logits, tokens.reshape(batch, 1, 1), rewards, temperature=temperature
  )


def expectation(function, batch, temperature=1.0):
  """Exact mean of function(tokens [batch]) over all token draws."""
  p = jax.nn.softmax(LOGITS / temperature)
  draws = jnp.array(list(itertools.product(range(3), repeat=batch)))
  return jnp.einsum('n,n...->...', p[draws].prod(1), jax.vmap(function)(draws))


@pytest.mark.parametrize(('batch', 'temperature'), [(2, 1.0), (3, 0.5)])
def test_gradient_is_unbiased(batch, temperature):
  """Enumerated, not sampled: the baseline adds no bias at any batch size."""
  mean = expectation(
    lambda tokens: jax.grad(loss)(LOGITS, tokens, REWARD[tokens], temperature),
    batch,
    temperature,
  )
  expected_loss = lambda z: -(jax.nn.softmax(z / temperature) * REWARD).sum()
  exact = jax.grad(expected_loss)(LOGITS)
  np.testing.assert_allclose(mean, exact, atol=1e-6)


def test_a_constant_reward_gives_no_gradient():
  """What a baseline is for: no noise from the level of the reward."""
  tokens = jnp.array([0, 1, 2, 2])
  gradient = jax.grad(loss)(LOGITS, tokens, jnp.full(4, 1000.0))
  np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_the_baseline_leaves_the_sample_out():
  """With two samples each one's advantage is the difference to the other."""
  logits = jnp.zeros((2, 1, 1, 3))
  tokens = jnp.array([0, 1]).reshape(2, 1, 1)
  gradient = jax.grad(reinforce_loss)(logits, tokens, jnp.array([5.0, 2.0]))
  score = np.array([[2 / 3, -1 / 3, -1 / 3], [-1 / 3, 2 / 3, -1 / 3]])
  expected = -np.array([[3.0], [-3.0]]) * score / 2
  np.testing.assert_allclose(gradient[:, 0, 0], expected, atol=1e-6)


def test_every_entry_of_a_sample_shares_its_advantage():
  logits = jax.random.normal(jax.random.key(0), (2, 4, 2, 3))
  tokens = jax.random.randint(jax.random.key(1), (2, 4, 2), 0, 3)
  gradient = jax.grad(reinforce_loss)(logits, tokens, jnp.array([1.0, 0.0]))
  score = jax.nn.one_hot(tokens, 3) - jax.nn.softmax(logits)
  advantage = jnp.array([1.0, -1.0]).reshape(2, 1, 1, 1)
  np.testing.assert_allclose(gradient, -advantage * score / 2, atol=1e-6)


def test_rewards_are_constants():
  tokens = jnp.array([0, 2])
  to_rewards = jax.grad(loss, argnums=2)(LOGITS, tokens, REWARD[tokens])
  np.testing.assert_array_equal(to_rewards, 0)


def test_a_batch_of_one_is_refused():
  with pytest.raises(ValueError, match='batch of at least 2'):
    loss(LOGITS, jnp.array([0]), jnp.array([1.0]))
