"""The precision of what must not be computed in bfloat16."""

import jax
import jax.numpy as jnp


def at_least_float32(x: jax.Array) -> jax.Array:
  """float32, or float64 where `x` is, which checks of gradients use."""
  x = jnp.asarray(x)
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))
