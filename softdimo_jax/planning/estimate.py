"""Memory estimates from shapes, for chips without an offline compiler."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr

from softdimo_jax.planning.flops import inner_jaxprs
from softdimo_jax.runtime import sharding


def shard_bytes(tree: Any, sizes: Mapping[str, int]) -> int:
  """Bytes per device of a tree sharded by `sharding.spec`.

  Args:
    tree: tree of arrays or their shapes.
    sizes: devices per mesh axis.
  """
  total = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    axes = sharding.spec(name, leaf.shape, sizes)
    parts = math.prod(sizes[axis] for axis in axes if axis is not None)
    total += leaf.size * leaf.dtype.itemsize // parts
  return total


def kept_bytes(function: Callable[..., Any], *args: Any) -> int:
  """Bytes of the stacked outputs of scans, mostly kept for backward passes.

  Scans of the whole step are summed, because the student's activations are
  needed until its end.
  """
  return _kept(jax.make_jaxpr(function)(*args).jaxpr)


def _kept(jaxpr: Jaxpr) -> int:
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == 'scan':
      outputs = equation.outvars[equation.params['num_carry'] :]
      stacked: list[Any] = [var.aval for var in outputs]
      total += sum(
        aval.size * aval.dtype.itemsize
        for aval in stacked
        if not jnp.issubdtype(aval.dtype, jax.dtypes.prng_key)
      )
    else:
      total += sum(map(_kept, inner_jaxprs(equation.params)))
  return total
