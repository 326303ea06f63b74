"""Samples tokens and images for any number of conditions, in batches."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np

from softdimo_jax.families.family import Family
from softdimo_jax.generation.tokens import decode_tokens
from softdimo_jax.networks.generators.condition import Condition
from softdimo_jax.runtime.batched import Batched
from softdimo_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Sampler:
  """Condition -> tokens and images, in batches of one compiled size.

  Batches are split over this process's devices.

  Attributes:
    tokens_fn: (generator params, keys [B], condition) -> int tokens [B, L, G].
    family: generator and tokenizer.
    batch_size: B per call; images do not depend on it.
  """

  tokens_fn: Callable[[Params, jax.Array, Condition], jax.Array]
  family: Family
  batch_size: int

  @functools.cached_property
  def _run(self) -> Batched:
    return Batched(self._generate)

  def place(self, params: Params) -> Params:
    """Puts parameters on the devices; saves transfers if called often."""
    return self._run.place(params)

  def __call__(
    self,
    params: Params,
    tokenizer_params: Params,
    keys: jax.Array,
    condition: Condition,
  ) -> tuple[np.ndarray, np.ndarray]:
    """Samples for host arrays: labels int [N], or text features of N prompts.

    Args:
      params: parameters of the whole generator.
      tokenizer_params: parameters of the decoder.
      keys: random keys [N] of the images, see `sampling.image_keys`.
      condition: labels are in [0, num_classes]; the last one is the
        unconditional class.

    Returns:
      (int32 tokens [N, L, G], float32 images [N, H, W, C] in [0, 1]).

    Raises:
      ValueError: for other labels, which networks would clamp.
    """
    if not self.family.reads_text:
      self._check_labels(np.asarray(condition))
    return self._run(
      (params, tokenizer_params), (keys, condition), self.batch_size
    )

  def _check_labels(self, labels: np.ndarray) -> None:
    last = self.family.null_label
    outside = labels[(labels < 0) | (labels > last)]
    if len(outside):
      raise ValueError(f'label {outside[0]} is not in [0, {last}]')

  def _generate(
    self, params: tuple[Params, Params], items: tuple[jax.Array, Condition]
  ) -> tuple[jax.Array, jax.Array]:
    (generator, tokenizer), (keys, condition) = params, items
    tokens = self.tokens_fn(generator, keys, condition)
    return tokens, decode_tokens(self.family, tokenizer, tokens, condition)
