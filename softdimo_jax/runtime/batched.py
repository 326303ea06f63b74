"""A function over any number of items, in padded batches on local devices."""

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from softdimo_jax.runtime import sharding
from softdimo_jax.types import Params


def split_size(batch_size: int) -> int:
  """`batch_size`, rounded up to a multiple of this process's devices.

  Raises:
    ValueError: for a batch size below 1.
  """
  if batch_size < 1:
    raise ValueError(f'batch_size must be at least 1, got {batch_size}')
  devices = jax.local_device_count()
  return -(-batch_size // devices) * devices


def take(items: Any, rows: slice | np.ndarray) -> Any:
  """These rows of every array of a tree."""
  return jax.tree.map(operator.itemgetter(rows), items)


def joined(parts: Iterable[Any]) -> Any:
  """Trees of arrays [N, ...], one behind the other; at least one."""
  return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


class Batched:
  """Runs a function on batches of one compiled size, and joins the results.

  Batches are split over this process's devices, so that every process of a run
  can work alone. While the host reads the results of a batch, the devices
  compute the next one.
  """

  def __init__(self, function: Callable[..., Any]):
    """Compiles nothing yet.

    Args:
      function: (params, items) -> results; trees of arrays [B, ...], in which
        no item depends on the others. Random numbers are drawn from keys [B]
        among the items, so that results do not depend on the batch.
    """
    self._mesh = sharding.local_mesh()
    self._compiled = jax.jit(function)

  def place(self, params: Params) -> Params:
    """Copies on every device; call it once before many calls."""
    return sharding.put_replicated(params, self._mesh)

  def __call__(
    self,
    params: Params,
    items: Any,
    batch_size: int,
  ) -> Any:
    """Results of all items.

    Args:
      params: a tree of arrays, on the host or from `place`.
      items: a tree of arrays [N, ...], N >= 1.
      batch_size: B, rounded up to a multiple of the devices.

    Returns:
      A tree of host arrays [N, ...].
    """
    size = split_size(batch_size)  # no batch but the last is padded
    starts = range(0, _count(items), size)
    batches = (take(items, slice(start, start + size)) for start in starts)
    return joined(self.stream(params, batches, size))

  def stream(
    self,
    params: Params,
    batches: Iterable[Any],
    batch_size: int,
  ) -> Iterator[Any]:
    """Yields the results of every batch, one batch behind the reading.

    Args:
      params: a tree of arrays, on the host or from `place`.
      batches: trees of arrays [b, ...], 1 <= b <= B.
      batch_size: B; batches are padded with copies of their own items to B,
        rounded up to a multiple of the devices.

    Yields:
      Trees of host arrays [b, ...].
    """
    size, placed, running = split_size(batch_size), self.place(params), None
    for batch in batches:
      started = _count(batch), self._start(placed, _filled(batch, size))
      if running is not None:
        yield _fetched(*running)
      running = started
    if running is not None:
      yield _fetched(*running)

  def _start(self, params: Params, batch: Any) -> Any:
    with jax.set_mesh(self._mesh):
      placed = sharding.put_batch(batch, self._mesh)
      return self._compiled(params, placed)


def _count(items: Any) -> int:
  counts = {len(leaf) for leaf in jax.tree.leaves(items)}
  if len(counts) != 1:
    raise ValueError(f'items of different numbers: {sorted(counts)}')
  return counts.pop()


def _filled(batch: Any, size: int) -> Any:
  count = _count(batch)
  return batch if count == size else take(batch, np.arange(size) % count)


def _fetched(count: int, results: Any) -> Any:
  return take(jax.device_get(results), slice(count))
