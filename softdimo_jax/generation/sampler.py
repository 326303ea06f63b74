"""Tokens and images of any number of conditions, in batches."""

import dataclasses
import operator
from collections.abc import Callable

import jax
import numpy as np

from softdimo_jax.families.family import Family
from softdimo_jax.generation.tokens import decode_tokens
from softdimo_jax.networks.generators.condition import Condition, batch_size
from softdimo_jax.runtime import sharding
from softdimo_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Sampler:
  """Condition -> tokens and images, in batches of one compiled size.

  Batches are split over this process's devices.

  Attributes:
    tokens_fn: (generator params, key, condition) -> int tokens [B, L, G].
    family: generator and tokenizer.
    batch_size: B of a call, rounded up to the devices; the last is padded.
  """

  tokens_fn: Callable[[Params, jax.Array, Condition], jax.Array]
  family: Family
  batch_size: int

  def __post_init__(self) -> None:
    devices = jax.local_device_count()
    size = -(-self.batch_size // devices) * devices
    object.__setattr__(self, 'batch_size', size)
    object.__setattr__(self, '_mesh', sharding.local_mesh())
    object.__setattr__(self, '_compiled', jax.jit(self._generate))

  def place(self, params: Params) -> Params:
    """Parameters on the devices; worth it before many calls."""
    return sharding.put_replicated(params, self._mesh)

  def __call__(
    self,
    params: Params,
    tokenizer_params: Params,
    key: jax.Array,
    condition: Condition,
  ) -> tuple[np.ndarray, np.ndarray]:
    """Of host arrays: labels int [N], or text of N prompts.

    Returns:
      (int32 tokens [N, L, G], float32 images [N, H, W, C] in [0, 1]).
    """
    placed = self.place((params, tokenizer_params))
    count = batch_size(condition)
    tokens, images = [], []
    with jax.set_mesh(self._mesh):
      for start in range(0, count, self.batch_size):
        # The last batch begins again with the first ones.
        chosen = np.arange(start, start + self.batch_size) % count
        batch = jax.tree.map(operator.itemgetter(chosen), condition)
        output = self._compiled(
          *placed,
          jax.random.fold_in(key, start),
          sharding.put_batch(batch, self._mesh),
        )
        tokens.append(output[0])
        images.append(output[1])
    join = lambda parts: np.concatenate(jax.device_get(parts))[:count]
    return join(tokens), join(images)

  def _generate(
    self,
    params: Params,
    tokenizer_params: Params,
    key: jax.Array,
    condition: Condition,
  ) -> tuple[jax.Array, jax.Array]:
    tokens = self.tokens_fn(params, key, condition)
    images = decode_tokens(self.family, tokenizer_params, tokens, condition)
    return tokens, images
