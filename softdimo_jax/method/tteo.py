"""Test-time embedding optimisation (TTEO), Soft-Di[M]O section 3.4.

The generator stays as it is; gradient ascent on a reward moves its input
embedding. Every iterate is decoded and scored as an image would be, and the
best one is kept, so that the result is never worse than the start.
"""

from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Decoded:
  """What an embedding becomes: tokens int [N, L, G] and score float [N]."""

  tokens: jax.Array
  score: jax.Array


@flax.struct.dataclass
class Optimized:
  """Result of N starts.

  Attributes:
    start: the starts, decoded.
    best: the best iterate of every start, decoded.
    scores: float32 [K + 1, N], of all decoded iterates, the starts first.
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
  """Plain gradient ascent on embeddings; without steps it scores the starts.

  Args:
    embeddings: [N, L, D], after the noise and before the positions.
    evaluate: embeddings -> (scores [N] of the soft images, decoded hard ones).
      The first are differentiated, as a sum: a start's step does not depend on
      how many others there are.
    steps: K >= 0.
    learning_rate: of the ascent.

  Returns:
    Optimized.
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
