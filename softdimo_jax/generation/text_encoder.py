"""Runs a family's text tower on token ids, in batches over local devices.

The unconditional prompt is that of the data: `Inputs.null`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import numpy as np

from softdimo_jax.families.family import Family
from softdimo_jax.networks.generators.condition import TextCondition
from softdimo_jax.runtime.batched import Batched, joined, split_size
from softdimo_jax.types import Params


@dataclasses.dataclass(frozen=True)
class TextEncoder:
  """Token ids -> condition for generator and decoder.

  Attributes:
    family: system with the text tower.
    params: parameters of the text tower.
    batch_size: largest number of prompts per call, rounded up to a multiple of
      the devices.
  """

  family: Family
  params: Params
  batch_size: int = 64

  @functools.cached_property
  def _run(self) -> Batched:
    return Batched(self.family.encode_text)

  @functools.cached_property
  def _placed(self) -> Params:
    return self._run.place(self.params)

  def __call__(
    self,
    ids: np.ndarray,
    before_batch: Callable[[int], None] = lambda number: None,
  ) -> TextCondition:
    """Encodes prompts.

    Args:
      ids: int [N, T], N >= 1.
      before_batch: called before every batch with its number.

    Returns:
      Condition of host arrays.
    """
    size = split_size(min(self.batch_size, len(ids)))

    def batches() -> Iterator[np.ndarray]:
      for number, start in enumerate(range(0, len(ids), size)):
        before_batch(number)
        yield ids[start : start + size]

    return joined(self._run.stream(self._placed, batches(), size))
