"""Sharding inside computations: batches, and a split vocabulary.

If the mesh in context has an axis `tensor`, each device along it holds a part
of the codes: it sums over its part, and the partial sums are added over the
axis. Without such a mesh (one device, a plain call in a test) none of this
applies.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

BATCH_AXES = ('data', 'fsdp')
TENSOR = 'tensor'


def constrain_batch(tree: Any) -> Any:
  """Shards the first axis of arrays inside a program over the batch axes.

  Parameters are sharded over one of these axes as well, so XLA might otherwise
  split widths and replicate the batch. Does nothing on one device or without a
  mesh in context.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return tree
  pieces = _pieces(mesh)

  def constrain(x: jax.Array) -> jax.Array:
    if x.shape[0] % pieces:  # a single example that only defines shapes
      return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH_AXES))

  return jax.tree.map(constrain, tree)


def _pieces(mesh: jax.sharding.AbstractMesh) -> int:
  return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def is_split() -> bool:
  """Whether the mesh in context splits the vocabulary."""
  mesh = jax.sharding.get_abstract_mesh()
  return dict(mesh.shape).get(TENSOR, 1) > 1 and not mesh.manual_axes


def split(
  function: Callable[..., jax.Array],
  arrays: Sequence[jax.Array],
  *,
  vocabulary: Sequence[int],
  batched: Sequence[bool],
  fill: float,
  returns_vocabulary: bool,
) -> jax.Array:
  """Runs `function` on each device's part of the codes.

  Args:
    function: called with the parts; must itself sum over TENSOR.
    arrays: the complete arguments.
    vocabulary: axis of the codes in each array.
    batched: for each array, whether its first axis is the batch.
    fill: value of padding codes, which make the parts equally long.
    returns_vocabulary: whether the codes are the last axis of the result;
      otherwise the result is the same on all devices along TENSOR.

  Returns:
    The result, without padding codes.
  """
  mesh = jax.sharding.get_abstract_mesh()
  pieces = _pieces(mesh)
  divides = all(
    array.shape[0] % pieces == 0
    for array, has_batch in zip(arrays, batched, strict=True)
    if has_batch
  )
  batch = BATCH_AXES if divides else None
  count = arrays[0].shape[vocabulary[0]]
  missing = -count % mesh.shape[TENSOR]
  padded, specs = [], []
  for array, axis, has_batch in zip(arrays, vocabulary, batched, strict=True):
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, missing)
    padded.append(jnp.pad(array, widths, constant_values=fill))
    names: list[Any] = [None] * array.ndim
    names[0] = batch if has_batch else None
    names[axis] = TENSOR
    specs.append(PartitionSpec(*names))
  out_specs = specs[0] if returns_vocabulary else PartitionSpec(batch)
  output = jax.shard_map(function, in_specs=tuple(specs), out_specs=out_specs)(
    *padded
  )
  return output[..., :count] if returns_vocabulary else output


def total(x: jax.Array, axis_name: str | None) -> jax.Array:
  """Sum over a last axis that is sharded over `axis_name`; keeps the axis."""
  local = x.sum(-1, keepdims=True)
  return local if axis_name is None else jax.lax.psum(local, axis_name)


def log_softmax(x: jax.Array, axis_name: str | None) -> jax.Array:
  """log_softmax over a last axis that is sharded over `axis_name`.

  Not differentiable across devices: `pmax` has no gradient.
  """
  if axis_name is None:
    return jax.nn.log_softmax(x)
  shifted = x - jax.lax.pmax(x.max(-1, keepdims=True), axis_name)
  return shifted - jnp.log(total(jnp.exp(shifted), axis_name))
