"""The one-step generator in training: its input, logits and samples."""

import dataclasses

import flax.struct
import jax
import ml_collections

from softdimo_jax.families.family import Family
from softdimo_jax.families.start import Start
from softdimo_jax.method import masking, sampling
from softdimo_jax.networks.generators.condition import Condition, batch_size
from softdimo_jax.ops.parallel import constrain_batch
from softdimo_jax.training.distill.keys import tagged
from softdimo_jax.types import Params


def temperature_of(config: ml_collections.ConfigDict, part: str) -> float:
  """Temperature of the student's tokens in a part of a distillation.

  Args:
    config: of the stage.
    part: 'gan', 'reward' or another section with its own `temperature`; None
      there means that of the stage.
  """
  own = config[part].temperature
  return config.temperature if own is None else own


@flax.struct.dataclass
class Sample:
  """Tokens of the student and the result of the forward process on them.

  Attributes:
    condition: labels int [B], or text.
    tokens: int [B, L, G] drawn from the student's logits.
    masked: int [B, L, G], tokens after the forward process.
    mask: bool [B, L, G], True where it masked an entry.
  """

  condition: Condition
  tokens: jax.Array
  masked: jax.Array
  mask: jax.Array


@dataclasses.dataclass(frozen=True)
class Student:
  """The generator as a distillation calls it; holds no arrays.

  Attributes:
    family: generator and vocabulary facts.
    config: the stage: batch_size, accumulation, init, mask, temperature,
      dropout.
  """

  family: Family
  config: ml_collections.FrozenConfigDict

  def draw_labels(self, key: jax.Array) -> jax.Array:
    """Random labels int [B] for one part of a data-free batch."""
    shape = (self.config.batch_size // self.config.accumulation,)
    return constrain_batch(
      jax.random.randint(key, shape, 0, self.family.null_label)
    )

  def start(self, key: jax.Array, step: jax.Array) -> Start:
    """What x_init is drawn with, from the key and index of a step."""
    return Start.in_training(self.config.init, tagged(key, 'init'), step)

  def logits(
    self,
    trained: Params,
    teacher: Params,
    condition: Condition,
    key: jax.Array,
    start: Start,
  ) -> jax.Array:
    """Logits [B, L, G, C] at a fresh x_init."""
    input_key, dropout_key = jax.random.split(key)
    embeddings = self.family.initial_embeddings(
      teacher, input_key, batch_size(condition), start
    )
    params = self.family.merge(trained, teacher)
    return self.family.one_step(
      params,
      constrain_batch(embeddings),
      condition,
      start,
      dropout_key=dropout_key if self.config.dropout else None,
    ).logits

  def sample(
    self, key: jax.Array, logits: jax.Array, condition: Condition
  ) -> Sample:
    """Samples hard tokens, never the mask token, and masks them again."""
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
