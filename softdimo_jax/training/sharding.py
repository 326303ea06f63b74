"""Mesh of devices and how arrays lie on it: batches split, state replicated."""

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

BATCH = PartitionSpec('data')
REPLICATED = PartitionSpec()


def make_mesh() -> jax.sharding.Mesh:
  """One axis, `data`, over every device. Linen needs Auto axes."""
  return jax.make_mesh((jax.device_count(),), ('data',), (AxisType.Auto,))


def check_batch(name: str, batch: int) -> None:
  """Raises ValueError unless `batch` divides by the number of devices."""
  devices = jax.device_count()
  if batch % devices:
    raise ValueError(
      f'{name}={batch} is not divisible by the {devices} devices; choose a '
      f'multiple of {devices}'
    )


def constrain_batch(tree):
  """Splits arrays drawn inside a step over `data` on their first axis.

  Without a mesh in context (a plain call in a test) it does nothing.
  """
  if jax.sharding.get_abstract_mesh().empty:
    return tree
  return jax.lax.with_sharding_constraint(tree, BATCH)


def put_batch(tree, mesh: jax.sharding.Mesh):
  """Host arrays [B, ...] -> device arrays split on their first axis."""
  return jax.device_put(tree, NamedSharding(mesh, BATCH))


def put_replicated(tree, mesh: jax.sharding.Mesh):
  """The same value on every device."""
  return jax.device_put(tree, NamedSharding(mesh, REPLICATED))
