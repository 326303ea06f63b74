"""Endless shuffled batches of small records, with a saved position.

Only indices are shuffled, and each batch is gathered at once: Grain spends
microseconds per element, too much for tiny records.
"""

from collections.abc import Callable, Mapping

import grain
import numpy as np

from softdimo_jax.types import Batch


def shuffled_batches(
  arrays: Mapping[str, np.ndarray],
  batch_size: int,
  seed: int,
  rows: np.ndarray | None = None,
) -> grain.DatasetIterator:
  """Endless batches; every epoch is a new permutation.

  Args:
    arrays: arrays [N, ...] by name.
    batch_size: B. Batches cross epoch boundaries, so B > N works too.
    seed: seed of the permutations.
    rows: see `gathered_batches`.

  Returns:
    An iterator as of `gathered_batches`.

  Raises:
    ValueError: if the arrays differ in N.
  """
  sizes = {name: len(array) for name, array in arrays.items()}
  if len(set(sizes.values())) != 1:
    raise ValueError(f'arrays differ in their number of examples: {sizes}')
  return gathered_batches(
    next(iter(sizes.values())),
    lambda index: {name: array[index] for name, array in arrays.items()},
    batch_size,
    seed,
    rows,
  )


def gathered_batches(
  num_examples: int,
  gather: Callable[[np.ndarray], Batch],
  batch_size: int,
  seed: int,
  rows: np.ndarray | None = None,
  read_options: grain.ReadOptions | None = None,
) -> grain.DatasetIterator:
  """Like `shuffled_batches`, for any examples that are gathered by index.

  Args:
    num_examples: N.
    gather: int indices [B] -> {name: [B, ...]}; runs in several threads.
    batch_size: B.
    seed: seed of the permutations.
    rows: int [R], rows of each batch that this process reads when several
      processes draw the same batches; None reads all.
    read_options: threads and prefetching; Grain's defaults if None.

  Returns:
    An iterator of {name: [B, ...]}, or [R, ...] with `rows`. Its state is the
    position in the stream of batches, the same in every process.
  """
  mine = gather if rows is None else lambda index: gather(index[rows])
  return iter(
    grain.MapDataset.range(num_examples)
    .seed(seed)
    .shuffle()
    .repeat()
    # An endless stream has no remainder; without this, Grain rounds the number
    # of batches up, which overflows for batches of one.
    .batch(batch_size, drop_remainder=True)
    .map(mine)
    .to_iter_dataset(read_options)
  )
