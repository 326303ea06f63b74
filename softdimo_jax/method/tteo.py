"""Test-time embedding optimisation (TTEO), Soft-Di[M]O section 3.4.

The generator stays fixed; gradient ascent on a reward moves its input
embedding. Every iterate is decoded to hard tokens and scored, and the best one
is kept, so the result never scores below the start.
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Decoded:
  """Decoded embeddings: tokens int [N, L, G] and their scores float [N]."""

  tokens: jax.Array
  score: jax.Array


@flax.struct.dataclass
class Optimized:
  """Result for N starts.

  Attributes:
    start: the decoded starts.
    best: the decoded best iterate of each start.
    scores: float32 [K + 1, N], scores of all decoded iterates, starts first.
  """

  start: Decoded
  best: Decoded
  scores: jax.Array


def optimize_embeddings(
  embeddings: jax.Array,
  evaluate: Callable[[jax.Array], tuple[jax.Array, Decoded]],
  *,
  steps: int,
  learning_rate: float,
) -> Optimized:
  """Plain gradient ascent on embeddings; with no steps it scores the starts.

  Args:
    embeddings: [N, L, D], after the noise and before position embeddings.
    evaluate: embeddings -> (scores [N] of the soft images, decoded hard
      tokens). The soft scores are summed before differentiation, so a start's
      steps do not depend on N.
    steps: K >= 0.
    learning_rate: step size of the ascent.

  Returns:
    The decoded starts, best iterates and all scores.
  """

  def total(x: jax.Array) -> tuple[jax.Array, Decoded]:
    soft, decoded = evaluate(x)
    return soft.sum(), decoded

  def step(x: jax.Array, _: None) -> tuple[jax.Array, Decoded]:
    gradient, decoded = jax.grad(total, has_aux=True)(x)
    return x + learning_rate * gradient, decoded

  last, iterates = jax.lax.scan(step, embeddings, length=steps)
  iterates = jax.tree.map(
    lambda before, after: jnp.concatenate([before, after[None]]),
    iterates,
    evaluate(last)[1],
  )
  best = iterates.score.argmax(0), jnp.arange(len(embeddings))
  return Optimized(
    start=jax.tree.map(lambda x: x[0], iterates),
    best=jax.tree.map(lambda x: x[best], iterates),
    scores=iterates.score,
  )
