"""Endless shuffled batches of in-memory arrays, with a saved position.

The permutation is drawn over example indices and whole batches are gathered
at once: Grain spends microseconds per element, so tiny records are not passed
through it one by one.
"""

from collections.abc import Mapping

import grain
import numpy as np


def shuffled_batches(
  arrays: Mapping[str, np.ndarray], batch_size: int, seed: int
) -> grain.DatasetIterator:
  """Batches for ever; every epoch is a new permutation.

  Args:
    arrays: equal first axis N.
    batch_size: B. Batches run across epoch borders, so B > N works too.
    seed: of the permutations.

  Returns:
    An iterator of {name: [B, ...]} whose state Orbax saves and restores.
  """
  sizes = {name: len(array) for name, array in arrays.items()}
  if len(set(sizes.values())) != 1:
    raise ValueError(f'arrays differ in their number of examples: {sizes}')
  indices = grain.MapDataset.range(next(iter(sizes.values())))
  return iter(
    indices.seed(seed)
    .shuffle()
    .repeat()
    .batch(batch_size)
    .map(lambda index: {name: a[index] for name, a in arrays.items()})
    .to_iter_dataset()
  )
