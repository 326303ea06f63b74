"""Token ids through a family's text tower, in batches over local devices."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from softdimo_jax.families.family import Family
from softdimo_jax.networks.generators.condition import TextCondition
from softdimo_jax.runtime import sharding
from softdimo_jax.types import Params


@dataclasses.dataclass(frozen=True)
class TextEncoder:
  """Prompts -> what generator and decoder read of them.

  Attributes:
    family: whose tower reads the prompts.
    params: of the tower.
    batch_size: most prompts of a call, rounded up to the devices.
  """

  family: Family
  params: Params
  batch_size: int = 64

  def __post_init__(self) -> None:
    mesh = sharding.local_mesh()
    placed = sharding.put_replicated(self.params, mesh)
    object.__setattr__(self, '_mesh', mesh)
    object.__setattr__(self, '_placed', placed)
    object.__setattr__(self, '_compiled', jax.jit(self.family.encode_text))

  def __call__(
    self,
    ids: np.ndarray,
    before_batch: Callable[[int], None] = lambda number: None,
  ) -> TextCondition:
    """Condition of prompts.

    Args:
      ids: int [N, T], N >= 1.
      before_batch: called with the number of every batch.

    Returns:
      Arrays of the host.
    """
    devices = jax.local_device_count()
    size = -(-min(self.batch_size, len(ids)) // devices) * devices
    parts = []
    for number, start in enumerate(range(0, len(ids), size)):
      before_batch(number)
      # The last batch begins again with the first prompts.
      rows = np.arange(start, start + size) % len(ids)
      with jax.set_mesh(self._mesh):
        batch = sharding.put_batch(ids[rows], self._mesh)
        parts.append(self._compiled(self._placed, batch))
      if number:  # the device has one batch to work on meanwhile
        parts[-2] = jax.device_get(parts[-2])
    return jax.tree.map(
      lambda *arrays: np.concatenate(arrays)[: len(ids)],
      *jax.device_get(parts),
    )
