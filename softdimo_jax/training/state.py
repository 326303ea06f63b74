"""What a stage trains, and, apart from it, what a distillation only reads.

The frozen teacher is an argument of the step: it is never in the state, hence
never in a checkpoint.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from softdimo_jax.families.family import Family
from softdimo_jax.networks.generators.condition import Condition
from softdimo_jax.types import Params

# Reads parameters when they are needed.
Read = Callable[[], Params]


@flax.struct.dataclass
class Role:
  """One trained network.

  Attributes:
    params: trained parameters. In distillation the generator and the
      auxiliary hold only what they train; the frozen rest is the teacher's.
    opt_state: optax state.
    ema: moving average of params, or None.
    skipped: int32, updates skipped so far because they were not finite.
    skipped_in_a_row: int32, the same since the last finite update.
  """

  params: Params
  opt_state: Any
  ema: Params | None
  skipped: jax.Array
  skipped_in_a_row: jax.Array


@flax.struct.dataclass
class TrainState:
  """State of a stage; absent roles are None.

  Attributes:
    step: int32, finished steps.
    model: the network the stage is about: tokenizer, teacher or generator.
    auxiliary: Di[M]O's fake-score model.
    discriminator: Soft-Di[M]O's heads.
  """

  step: jax.Array
  model: Role
  auxiliary: Role | None = None
  discriminator: Role | None = None

  @classmethod
  def create(cls, model: Role, **roles: Role | None) -> 'TrainState':
    """State at step 0."""
    return cls(jnp.zeros((), jnp.int32), model, **roles)


@flax.struct.dataclass
class Frozen:
  """What a distillation reads and never trains.

  Attributes:
    teacher: whole generator parameters.
    null: condition of the teacher's other branch, of a batch of 1; None is
      the null class.
    tokenizer: parameters that `Family.decode` reads, or None without rewards.
    rewards: parameters by the reward's name, or None.
  """

  teacher: Params
  null: Condition | None = None
  tokenizer: Params | None = None
  rewards: dict[str, Params] | None = None

  @classmethod
  def read(
    cls,
    family: Family,
    dtype: str,
    *,
    teacher: Read,
    null: Condition | None,
    tokenizer: Read | None = None,
    rewards: Mapping[str, Read] | None = None,
  ) -> 'Frozen':
    """Everything as the step keeps it.

    One is read after the other: before they are converted they are too large
    to lie beside each other and the state.

    Args:
      family: of the teacher.
      dtype: that the matrices are kept in.
      teacher: reads the attribute's parameters, as the next two do.
      null: the attribute.
      tokenizer: left out without rewards.
      rewards: by name.
    """
    keep = lambda read: with_dtype(read(), dtype)
    return cls(
      teacher=family.stored(keep(teacher)),
      null=null,
      tokenizer=keep(tokenizer) if tokenizer else None,
      rewards={n: keep(read) for n, read in rewards.items()}
      if rewards
      else None,
    )


def with_dtype(params: Params, dtype: str) -> Params:
  """Parameters whose matrices are of another dtype.

  Vectors and scalars, which norms and scales are, stay as they are: they weigh
  nothing, and half precision would show.
  """
  cast = lambda leaf: leaf.astype(dtype) if leaf.ndim > 1 else leaf
  return jax.tree.map(cast, params)
