import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.method.tteo import Decoded, optimize_embeddings

STARTS = 6


def evaluate(x):
  """A smooth soft score; the hard one sees rounded embeddings."""
  soft = -jnp.square(x - 1).sum((1, 2))
  tokens = jnp.round(x).astype(jnp.int32)
  return soft, Decoded(tokens=tokens, score=-jnp.abs(tokens - 1).sum((1, 2)))


def starts(seed=0):
  return 4 * jax.random.normal(jax.random.key(seed), (STARTS, 3, 2))


@pytest.mark.parametrize('learning_rate', [0.1, 0.9, 30.0])
def test_never_worse_than_the_start(learning_rate):
  result = optimize_embeddings(
    starts(), evaluate, steps=5, learning_rate=learning_rate
  )
  chex.assert_shape(result.scores, (6, STARTS))
  assert (result.best.score >= result.start.score).all()
  np.testing.assert_array_equal(result.best.score, result.scores.max(0))
  # The tokens are those of the score, not of a later iterate.
  np.testing.assert_array_equal(
    result.best.score, -jnp.abs(result.best.tokens - 1).sum((1, 2))
  )


def test_the_ascent_climbs():
  result = optimize_embeddings(starts(), evaluate, steps=20, learning_rate=0.2)
  np.testing.assert_array_equal(result.best.tokens, 1)


def test_without_steps_the_starts_are_scored():
  result = optimize_embeddings(starts(), evaluate, steps=0, learning_rate=0.2)
  chex.assert_trees_all_equal(result.best, result.start)
  np.testing.assert_array_equal(result.scores, result.start.score[None])


def test_a_start_does_not_depend_on_the_others():
  run = lambda x: optimize_embeddings(x, evaluate, steps=3, learning_rate=0.1)
  everybody, alone = run(starts()), run(starts()[:1])
  np.testing.assert_allclose(everybody.scores[:, :1], alone.scores)
