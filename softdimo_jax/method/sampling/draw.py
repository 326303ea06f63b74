"""Random keys of images; categorical draws with temperature, top-k, top-p."""

import jax
import jax.numpy as jnp
import numpy as np


def image_keys(seed: int, count: int, first: int = 0) -> jax.Array:
  """Random keys of images: that of image i is fold_in(key(seed), i).

  All random numbers of an image come from its key, so it is the same in batches
  of any size, on any number of devices, and whatever else is generated.

  Args:
    seed: seed of all images.
    count: N.
    first: index of the first image among all that were asked for.

  Returns:
    Keys [N].
  """
  index = np.arange(first, first + count)
  return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), index)


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
    logits: [B, L, G, V], or [L, G, V] of one sample.
    temperature: divisor of the logits; 0 takes the arg max.
    top_k: see `keep_likely`.
    top_p: see `keep_likely`.

  Returns:
    int32, the shape of the logits without the codes.
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
