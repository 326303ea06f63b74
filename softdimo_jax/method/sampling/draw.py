"""Independent categorical draws with temperature, top-k and top-p."""

import jax
import jax.numpy as jnp


def sample_tokens(
  key: jax.Array,
  logits: jax.Array,
  *,
  temperature: float = 1.0,
  top_k: int = 0,
  top_p: float = 1.0,
) -> jax.Array:
  """Draws every entry independently (Di[M]O's one-step decoding).

  Args:
    key: random key.
    logits: [B, L, G, V].
    temperature: divisor of the logits; 0 takes the arg max.
    top_k: see `keep_likely`.
    top_p: see `keep_likely`.

  Returns:
    int32 [B, L, G].
  """
  logits = logits.astype(jnp.float32)
  if temperature == 0:
    return logits.argmax(-1).astype(jnp.int32)
  logits = keep_likely(logits / temperature, top_k=top_k, top_p=top_p)
  return jax.random.categorical(key, logits).astype(jnp.int32)


def keep_likely(
  logits: jax.Array, *, top_k: int = 0, top_p: float = 1.0
) -> jax.Array:
  """Sets the logits of unlikely codes to -inf (Di[M]O `generate_one_step`).

  Args:
    logits: [..., V].
    top_k: number of largest logits to keep; 0 keeps all.
    top_p: a code is dropped if the likelier codes have a total probability
      above p; the likeliest is always kept. 1 keeps all.

  Returns:
    [..., V].
  """
  if top_k:
    kth = jax.lax.top_k(logits, top_k)[0][..., -1:]
    logits = jnp.where(logits < kth, -jnp.inf, logits)
  if top_p < 1:
    logits = jnp.where(_outside_nucleus(logits, top_p), -jnp.inf, logits)
  return logits


def _outside_nucleus(logits: jax.Array, top_p: float) -> jax.Array:
  order = jnp.argsort(-logits, axis=-1)
  sorted_p = jax.nn.softmax(jnp.take_along_axis(logits, order, -1))
  before = jnp.cumsum(sorted_p, -1) - sorted_p
  rank = jnp.argsort(order, axis=-1)
  return jnp.take_along_axis(before > top_p, rank, -1)
