"""What the maths has to know of a mesh: batches and a split vocabulary.

Where the mesh in context has an axis `tensor`, every device of it holds a part
of the codes: it sums over its part, and the parts are added over the axis.
Without such a mesh (one device, a plain call in a test) nothing here is used.
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
  """Splits arrays inside a program over the batch's axes, on their first one.

  Parameters are split over one of them, too, and XLA might else split widths
  and copy the batch. On one device, or without a mesh in context, nothing is
  done.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return tree
  pieces = _pieces(mesh)

  def constrain(x: jax.Array) -> jax.Array:
    if x.shape[0] % pieces:  # an example of one, for shapes
      return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(BATCH_AXES))

  return jax.tree.map(constrain, tree)


def _pieces(mesh: jax.sharding.AbstractMesh) -> int:
  return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def is_split() -> bool:
  """Whether a mesh with more than one part of the vocabulary is in context."""
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
  """Runs `function` on every device's part of the codes.

  Args:
    function: of the parts; adds over TENSOR itself.
    arrays: its arguments, whole.
    vocabulary: of each, the axis of the codes.
    batched: of each, whether the first axis is the batch.
    fill: what stands for codes that make the parts equally long.
    returns_vocabulary: whether the codes are the last axis of the result; else
      the result is the same on all devices of TENSOR.

  Returns:
    The result, of as many codes as the first array has.
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
    names = [None] * array.ndim
    names[0] = batch if has_batch else None
    names[axis] = TENSOR
    specs.append(PartitionSpec(*names))
  out_specs = specs[0] if returns_vocabulary else PartitionSpec(batch)
  output = jax.shard_map(function, in_specs=tuple(specs), out_specs=out_specs)(
    *padded
  )
  return output[..., :count] if returns_vocabulary else output


def total(x: jax.Array, axis_name: str | None) -> jax.Array:
  """Sum over the last axis, kept, and over the devices that share it."""
  local = x.sum(-1, keepdims=True)
  return local if axis_name is None else jax.lax.psum(local, axis_name)


def log_softmax(x: jax.Array, axis_name: str | None) -> jax.Array:
  """As jax.nn.log_softmax over the last axis, of which a device has a part.

  Not differentiable across devices: the maximum over them has no gradient.
  """
  if axis_name is None:
    return jax.nn.log_softmax(x)
  shifted = x - jax.lax.pmax(x.max(-1, keepdims=True), axis_name)
  return shifted - jnp.log(total(jnp.exp(shifted), axis_name))
