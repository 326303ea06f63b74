"""Gradients of a batch in parts, for batches that do not fit into memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Tree = Any


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
    function: (part of the batch, key) -> tree of float arrays.
    batch: see `mean_and_rows`.
    key: see `mean_and_rows`.
    parts: see `mean_and_rows`.

  Returns:
    A tree like that of `function`.
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
    function: (part of the batch, key) -> (tree of float arrays, arrays with the
      rows of the part, or None).
    batch: arrays [B, ...], B divisible by `parts`; may be empty.
    key: random key; a single part gets it unchanged.
    parts: number of parts, see `in_parts`.

  Returns:
    Trees like those of `function`, the second with the rows of the batch.
  """
  if parts == 1:
    return function(batch, key)
  batches = in_parts(batch, parts)

  def add(total: Tree, index: jax.Array) -> tuple[Tree, Tree]:
    part = jax.tree.map(lambda x: x[index], batches)
    output, rows = function(part, jax.random.fold_in(key, index))
    return jax.tree.map(jnp.add, total, output), rows

  first = jax.tree.map(lambda x: x[0], batches)
  zeros = jax.tree.map(
    lambda x: jnp.zeros(x.shape, x.dtype),
    jax.eval_shape(function, first, key)[0],
  )
  total, rows = jax.lax.scan(add, zeros, jnp.arange(parts))
  return jax.tree.map(lambda x: x / parts, total), joined(rows)
