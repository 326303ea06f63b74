"""Endless shuffled batches of small records, with a saved position.

The permutation is drawn over example indices and whole batches are gathered
at once: Grain spends microseconds per element, so tiny records are not passed
through it one by one.
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
  """Batches for ever; every epoch is a new permutation.

  Args:
    arrays: equal first axis N.
    batch_size: B. Batches run across epoch borders, so B > N works too.
    seed: of the permutations.
    rows: see `gathered_batches`.

  Returns:
    An iterator of {name: [B, ...]}; its state is that of `gathered_batches`.
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
  """As `shuffled_batches`, of whatever can be gathered by index.

  Args:
    num_examples: N.
    gather: int indices [B] -> {name: [B, ...]}; runs in several threads.
    batch_size: B.
    seed: of the permutations.
    rows: int [N], those of every batch that this process reads, of several
      that draw the same batches; None reads all.
    read_options: how many batches are gathered ahead; Grain's by default.

  Returns:
    An iterator of {name: [B, ...]}, or [N, ...] with `rows`. Its state is the
    position in the stream of batches, in every process the same.
  """
  mine = gather if rows is None else lambda index: gather(index[rows])
  return iter(
    grain.MapDataset.range(num_examples)
    .seed(seed)
    .shuffle()
    .repeat()
    # No stream without end has a remainder; Grain rounds up what is left over,
    # past the largest integer for batches of one.
    .batch(batch_size, drop_remainder=True)
    .map(mine)
    .to_iter_dataset(read_options)
  )
