"""Gradients of a batch in parts, for batches that do not fit into memory."""

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

Tree = Any


@flax.struct.dataclass
class Weighted:
  """A mean that is not one over examples, such as that over masked entries.

  Attributes:
    value: arrays, the mean over a part of a batch.
    weight: float32 scalar, what the part weighs in the mean over the batch,
      such as its number of masked entries.
  """

  value: Tree
  weight: jax.Array


def in_parts(batch: Tree, parts: int) -> Tree:
  """Arrays [B, ...] -> [parts, B / parts, ...].

  Part i has the rows i, i + parts, ..., so that every device already holds its
  share of each part.
  """
  return jax.tree.map(
    lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), batch
  )


def joined(batch: Tree) -> Tree:
  """Inverse of `in_parts`."""
  return jax.tree.map(
    lambda x: x.swapaxes(0, 1).reshape(-1, *x.shape[2:]), batch
  )


def mean_of_parts(
  function: Callable[[Tree, jax.Array], Tree],
  batch: Tree,
  key: jax.Array,
  parts: int,
) -> Tree:
  """Mean of `function` over equal parts of a batch, computed one at a time.

  Every part has its own random key, as in the official accumulation.

  Args:
    function: (part of the batch, key) -> tree of float arrays and of
      `Weighted` ones, which become their weighted means.
    batch: see `mean_and_rows`.
    key: see `mean_and_rows`.
    parts: see `mean_and_rows`.

  Returns:
    A tree like that of `function`, without `Weighted`.
  """
  mean, _ = mean_and_rows(
    lambda part, key: (function(part, key), None), batch, key, parts
  )
  return mean


def mean_and_rows(
  function: Callable[[Tree, jax.Array], tuple[Tree, Tree]],
  batch: Tree,
  key: jax.Array,
  parts: int,
) -> tuple[Tree, Tree]:
  """`mean_of_parts` that also keeps something of every example.

  Args:
    function: (part of the batch, key) -> (tree as in `mean_of_parts`, arrays
      with the rows of the part, or None).
    batch: arrays [B, ...], B divisible by `parts`; may be empty.
    key: random key; a single part gets it unchanged.
    parts: number of parts, see `in_parts`.

  Returns:
    Trees like those of `function`, the second with the rows of the batch.
  """
  if parts == 1:
    mean, rows = function(batch, key)
    return _map(lambda x: x, lambda x: x.value, mean), rows
  batches = in_parts(batch, parts)

  def add(total: Tree, index: jax.Array) -> tuple[Tree, Tree]:
    part = jax.tree.map(lambda x: x[index], batches)
    output, rows = function(part, jax.random.fold_in(key, index))
    return jax.tree.map(jnp.add, total, _map(lambda x: x, _sum, output)), rows

  first = jax.tree.map(lambda x: x[0], batches)
  zeros = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype),
    jax.eval_shape(function, first, key)[0],
  )
  total, rows = jax.lax.scan(add, zeros, jnp.arange(parts))
  return _map(lambda x: x / parts, _mean, total), joined(rows)


def _map(
  of_array: Callable[[jax.Array], jax.Array],
  of_weighted: Callable[[Weighted], Tree],
  tree: Tree,
) -> Tree:
  is_weighted = lambda x: isinstance(x, Weighted)
  return jax.tree.map(
    lambda x: of_weighted(x) if is_weighted(x) else of_array(x),
    tree,
    is_leaf=is_weighted,
  )


def _sum(mean: Weighted) -> Weighted:
  """The sum of which it is the mean, beside the weight."""
  return Weighted(
    jax.tree.map(lambda x: x * mean.weight, mean.value), mean.weight
  )


def _mean(total: Weighted) -> Tree:
  """Inverse of `_sum`; 0 if nothing weighs anything."""
  weight = jnp.maximum(total.weight, 1e-8)
  return jax.tree.map(lambda x: x / weight, total.value)
