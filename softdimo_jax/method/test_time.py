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

  def step(
    carry: tuple[jax.Array, Decoded], _: None
  ) -> tuple[tuple[jax.Array, Decoded], jax.Array]:
    x, best = carry
    gradient, decoded = jax.grad(total, has_aux=True)(x)
    carry = x + learning_rate * gradient, _better(best, decoded)
    return carry, decoded.score

  start = jax.tree.map(jax.lax.stop_gradient, evaluate(embeddings)[1])
  (last, best), scores = jax.lax.scan(step, (embeddings, start), length=steps)
  decoded = evaluate(last)[1] if steps else start
  return Optimized(
    start=start,
    best=_better(best, decoded),
    scores=jnp.concatenate([scores, decoded.score[None]]),
  )


def _better(a: Decoded, b: Decoded) -> Decoded:
  """Of each start the one with the higher score, `a` where they are equal."""
  second = b.score > a.score
  return Decoded(
    tokens=jnp.where(second[:, None, None], b.tokens, a.tokens),
    score=jnp.where(second, b.score, a.score),
  )
