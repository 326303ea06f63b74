"""The device mesh, and the sharding of every array on it.

Axes: `data` splits batches; `fsdp` splits batches and, between steps,
parameters; `tensor` splits the columns and rows of the layers' matrices and the
vocabulary. By default all devices are on `data`.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from softdimo_jax.ops.parallel import BATCH_AXES, TENSOR

AXES = (*BATCH_AXES, TENSOR)
BATCH = PartitionSpec(BATCH_AXES)
REPLICATED = PartitionSpec()
FROZEN = ('sharded', 'replicated')
_FSDP = BATCH_AXES[1]

Rule = Callable[[tuple[int, ...], Mapping[str, int]], PartitionSpec]


# Mesh.


def mesh_shape(
  config: Mapping[str, Any] | None, num_devices: int
) -> dict[str, int]:
  """Number of devices along every axis.

  Args:
    config: sizes by axis; one of them may be -1, which takes the devices that
      the others leave. None puts every device on `data`.
    num_devices: total, all of which the mesh must use.

  Raises:
    ValueError: unless the sizes multiply to `num_devices`.
  """
  sizes = {axis: (config or {}).get(axis, 1) for axis in AXES}
  if config is None:
    sizes['data'] = -1
  free = [axis for axis, size in sizes.items() if size == -1]
  wrong = [axis for axis, size in sizes.items() if size < 1 and size != -1]
  if wrong or len(free) > 1:
    raise ValueError(
      f'{_listed(sizes)}: sizes are positive, and at most one is -1 (the '
      'devices that the others leave)'
    )
  fixed = math.prod(size for size in sizes.values() if size > 0)
  if free and num_devices % fixed == 0:
    sizes[free[0]] = num_devices // fixed
  if math.prod(sizes.values()) != num_devices:
    raise ValueError(
      f'{_listed(sizes)} does not make {num_devices} devices; the sizes must '
      f'multiply to {num_devices}'
    )
  return sizes


def _listed(sizes: Mapping[str, int]) -> str:
  return ','.join(f'{axis}:{size}' for axis, size in sizes.items())


def make_mesh(
  config: Mapping[str, Any] | None = None,
  # jax.Device comes from an extension module, without a type.
  devices: Sequence[jax.Device] | None = None,  # pyright: ignore[reportInvalidTypeForm]
) -> Mesh:
  """Mesh of AXES over all devices of all processes.

  Axes are Auto, as Linen requires.

  Args:
    config: see `mesh_shape`.
    devices: `jax.devices()` by default.
  """
  devices = jax.devices() if devices is None else devices
  sizes = mesh_shape(config, len(devices))
  return jax.make_mesh(
    tuple(sizes.values()), AXES, (AxisType.Auto,) * 3, devices=devices
  )


def local_mesh() -> Mesh:
  """Mesh of this process's devices, all on `data`, for unshared work."""
  return make_mesh(devices=jax.local_devices())


def check_batch(
  name: str, batch: int, pieces: int, accumulation: int = 1
) -> None:
  """Raises ValueError unless `batch` divides into equal pieces.

  Args:
    name: of the field, for the message.
    batch: rows of the global batch.
    pieces: devices along `data` times devices along `fsdp`.
    accumulation: sequential parts of a batch.
  """
  unit = pieces * accumulation
  if batch % unit:
    parts = f' in {accumulation} parts' if accumulation > 1 else ''
    raise ValueError(
      f'{name}={batch} is not divisible by the {pieces} devices it is split '
      f'over{parts}; choose a multiple of {unit}'
    )


# Rules.


def _replicate(shape: tuple[int, ...], sizes: Mapping[str, int]):
  del shape, sizes
  return REPLICATED


def _matrix(tensor_axis: int | None) -> Rule:
  """Splits `tensor_axis` (-1 or -2) over `tensor` and the other over `fsdp`.

  Axes before the last two (the layers of a stack, the pixels of a convolution)
  are never split: a step takes one entry of them at a time.
  """

  def rule(shape: tuple[int, ...], sizes: Mapping[str, int]) -> PartitionSpec:
    names: list[str | None] = [None] * len(shape)
    if tensor_axis is not None and shape[tensor_axis] % sizes[TENSOR] == 0:
      names[tensor_axis] = TENSOR
    free = [
      axis
      for axis in (-1, -2)
      if names[axis] is None and shape[axis] % sizes[_FSDP] == 0
    ]
    if free:
      names[max(free, key=lambda axis: shape[axis])] = _FSDP
    return PartitionSpec(*names)

  return rule


# The first pattern found in the path decides. Paths of moving averages and of
# the optimiser's moments end like those of their parameters.
RULES: tuple[tuple[str, Rule], ...] = (
  (r'(^|/)(bias|scale)$', _replicate),
  (r'(layers|last)/.*(query|key|value|mlp_in)/kernel$', _matrix(-1)),
  (r'(layers|last)/.*(/|_)out/kernel$', _matrix(-2)),
  (r'(prediction|head/second)/kernel$', _matrix(-1)),
  (r'(tok_emb|word_emb|codebook)$', _matrix(-2)),
  (r'', _matrix(None)),
)


def spec(
  path: str, shape: tuple[int, ...], sizes: Mapping[str, int]
) -> PartitionSpec:
  """Partition of an array of the state; scalars and vectors are replicated.

  Args:
    path: keys of the array in the tree, joined by slashes.
    shape: of the array.
    sizes: number of devices along every axis.
  """
  if len(shape) < 2:
    return REPLICATED
  for pattern, rule in RULES:
    if re.search(pattern, path):
      return rule(shape, sizes)
  raise AssertionError('the last rule matches everything')


def layout(tree: Any, mesh: Mesh, *, split: bool = True) -> Any:
  """NamedSharding of every leaf by RULES.

  Args:
    tree: of arrays or their shapes.
    mesh: devices.
    split: False replicates every leaf instead.
  """
  sizes = dict(mesh.shape)

  def of(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    return NamedSharding(
      mesh, spec(name, leaf.shape, sizes) if split else REPLICATED
    )

  return jax.tree_util.tree_map_with_path(of, tree)


def abstract(tree: Any, shardings: Any) -> Any:
  """Shapes with shardings, as Orbax and the compiler expect them."""
  return jax.tree.map(
    lambda leaf, place: jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype, sharding=place
    ),
    tree,
    shardings,
  )


# From the host.


def place(tree: Any, mesh: Mesh, *, split: bool = True) -> Any:
  """Puts host arrays, equal in every process, on the devices by `layout`.

  Every process copies only what its devices hold.
  """
  shardings = layout(tree, mesh, split=split)
  if jax.process_count() == 1:
    return jax.device_put(tree, shardings)
  return jax.tree.map(_place_global, tree, shardings)


def put_replicated(tree: Any, mesh: Mesh) -> Any:
  """Copies of host arrays on every device."""
  return place(tree, mesh, split=False)


def _place_global(leaf: Any, sharding: NamedSharding) -> jax.Array:
  if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
    data = _place_global(jax.random.key_data(leaf), sharding)
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
  host = np.asarray(leaf)
  return jax.make_array_from_callback(host.shape, sharding, host.__getitem__)


def process_rows(mesh: Mesh, batch: int) -> np.ndarray | None:
  """Indices of the rows of a global batch that this process's devices hold.

  Args:
    mesh: devices.
    batch: rows of the global batch, divisible by data times fsdp.

  Returns:
    int [N], ascending; None if one process holds all rows.
  """
  if jax.process_count() == 1:
    return None
  pieces, mine = _pieces(mesh)
  size = batch // pieces
  return (np.array(mine)[:, None] * size + np.arange(size)).ravel()


def _pieces(mesh: Mesh) -> tuple[int, list[int]]:
  """(number of pieces of a batch, indices of this process's pieces)."""
  rows = mesh.devices.reshape(-1, mesh.shape[TENSOR])
  here = jax.process_index()
  return len(rows), [
    piece
    for piece, devices in enumerate(rows)
    if any(device.process_index == here for device in devices)
  ]


def put_batch(tree: Any, mesh: Mesh) -> Any:
  """Host arrays -> device arrays split on their first axis.

  Args:
    tree: arrays [B, ...]; with several processes [N, ...], the rows of
      `process_rows`.
    mesh: devices.

  Returns:
    Global arrays [B, ...].
  """
  sharding = NamedSharding(mesh, BATCH)
  if mesh.is_multi_process:
    pieces, mine = _pieces(mesh)
    put = lambda leaf: _put_rows(np.asarray(leaf), sharding, pieces, mine)
    return jax.tree.map(put, tree)
  return jax.device_put(tree, sharding)


def _put_rows(
  rows: np.ndarray, sharding: NamedSharding, pieces: int, mine: list[int]
) -> jax.Array:
  size = len(rows) // len(mine)

  def piece(index: Any) -> np.ndarray:
    first = mine.index((index[0].start or 0) // size) * size
    return rows[first : first + size]

  shape = (size * pieces, *rows.shape[1:])
  with jax.transfer_guard('allow'):  # explicit, like device_put
    return jax.make_array_from_callback(shape, sharding, piece)
