"""Checks shared by tests of several networks."""

import jax
import jax.numpy as jnp
import numpy as np


def draw(seed, *shape):
  """Normal draws from NumPy, because JAX would compile for every shape."""
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def rematerialisation_changes_nothing(module, params, *inputs, atol):
  """Asserts that the parameter gradient does not depend on `remat`."""

  def gradient(module):
    loss = lambda params: jnp.square(
      module.apply({'params': params}, *inputs).logits
    ).sum()
    return jax.jit(jax.grad(loss))(params)

  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=atol),
    gradient(module.clone(remat='full', unroll=2)),
    gradient(module),
  )


def count(module, side, length):
  """Number of parameters of a module that reads images and prompts."""
  shapes = jax.eval_shape(
    module.init,
    jax.random.key(0),
    jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32),
    jax.ShapeDtypeStruct((1, length), jnp.int32),
  )
  return sum(leaf.size for leaf in jax.tree.leaves(shapes))
