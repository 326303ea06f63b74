"""The one-step generator in training: its input, logits and samples."""

import dataclasses
from collections.abc import Callable

import flax.struct
import jax
import jax.numpy as jnp
import ml_collections

from softdimo_jax.families.family import Family
from softdimo_jax.method import masking, sampling
from softdimo_jax.method.soft_embedding import concentration
from softdimo_jax.networks.generators.condition import Condition, batch_size
from softdimo_jax.ops.chunks import map_positions
from softdimo_jax.ops.parallel import constrain_batch
from softdimo_jax.training import optim
from softdimo_jax.types import Metrics, Params


@flax.struct.dataclass
class Sample:
  """Tokens of the student and what the forward process made of them.

  Attributes:
    condition: labels int [B], or text.
    tokens: int [B, L, G] drawn from the student's logits.
    masked: int [B, L, G], tokens after the forward process.
    mask: bool [B, L, G], what it masked.
  """

  condition: Condition
  tokens: jax.Array
  masked: jax.Array
  mask: jax.Array


@dataclasses.dataclass(frozen=True)
class Student:
  """How a distillation calls its generator; holds no arrays.

  Attributes:
    family: generator and vocabulary facts.
    config: the stage: batch_size, accumulation, init, mask, temperature,
      dropout, divergence.chunk.
  """

  family: Family
  config: ml_collections.FrozenConfigDict

  def draw_labels(self, key: jax.Array) -> jax.Array:
    """Labels int [B] of data-free distillation, of a part of a batch."""
    shape = (self.config.batch_size // self.config.accumulation,)
    return constrain_batch(
      jax.random.randint(key, shape, 0, self.family.null_label)
    )

  def logits(
    self,
    trained: Params,
    teacher: Params,
    condition: Condition,
    key: jax.Array,
  ) -> jax.Array:
    """Logits [B, L, G, C] at a fresh x_init."""
    input_key, dropout_key = jax.random.split(key)
    embeddings = self.family.initial_embeddings(
      teacher, input_key, batch_size(condition), self.config.init
    )
    params = self.family.merge(trained, teacher)
    return self.family.one_step(
      params,
      constrain_batch(embeddings),
      condition,
      self.config.init,
      dropout_key=dropout_key if self.config.dropout else None,
    ).logits

  def sample(
    self, key: jax.Array, logits: jax.Array, condition: Condition
  ) -> Sample:
    """Hard tokens and their masked version; the mask is never sampled."""
    token_key, mask_key = jax.random.split(key)
    tokens = sampling.sample_tokens(
      token_key,
      logits[..., : self.family.vocab_size],
      temperature=self.config.temperature,
    )
    mask = self.config.mask
    masked, where, _ = masking.remask(
      mask_key,
      tokens,
      self.family.mask_id,
      schedule=mask.schedule,
      low=mask.low,
      high=mask.high,
    )
    return Sample(condition, tokens, masked, where)

  def concentration(self, logits: jax.Array, teacher: Params) -> Metrics:
    """How close the student is to one-hot, in the teacher's space."""
    table = self.family.table(teacher)[:, :-1]

    def statistics(logits: jax.Array, _: jax.Array) -> dict[str, jax.Array]:
      codes = logits[..., : self.family.vocab_size]
      stats = concentration(jax.nn.softmax(codes), table)
      return jax.tree.map(lambda x: x[None, None], dataclasses.asdict(stats))

    stats = jax.tree.map(jnp.mean, self.chunked(statistics, logits))
    return optim.prefix('student', stats)

  def chunked(
    self, function: Callable[..., jax.Array], *arrays: jax.Array
  ) -> jax.Array:
    """`map_positions`; the function gets the positions [1, P], too."""
    positions = jnp.arange(self.family.token_shape[0])[None]
    return map_positions(
      function, self.config.divergence.chunk, *arrays, positions
    )
