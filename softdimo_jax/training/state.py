"""The train state of a stage, and the frozen networks a distillation reads.

Frozen networks are an argument of the step, not part of the state: checkpoints
never contain them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from softdimo_jax.families.family import Family
from softdimo_jax.networks.generators.condition import Condition
from softdimo_jax.types import Params

# Loads parameters on demand.
Read = Callable[[], Params]


@flax.struct.dataclass
class Role:
  """One trained network.

  Attributes:
    params: trained parameters. In distillation the generator and the auxiliary
      hold only those; their frozen ones are the teacher's.
    opt_state: optax state.
    ema: moving average of params, or None.
    skipped: int32, number of updates skipped because they were not finite.
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
    step: int32, number of finished steps.
    model: the network that the stage is for: tokenizer, teacher, generator, ...
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
  """Networks that a distillation reads and never trains.

  Attributes:
    teacher: complete generator parameters.
    null: condition of the teacher's unconditional branch, for a batch of 1;
      None is the null class.
    tokenizer: parameters for `Family.decode`, or None without rewards.
    rewards: parameters by name of the reward, or None.
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
    """Loads the networks and casts their matrices.

    One at a time: before the cast they would not all fit beside the state.

    Args:
      family: of the teacher.
      dtype: of the stored matrices.
      teacher: loads the attribute; so do `tokenizer` and `rewards`.
      null: the attribute.
      tokenizer: None without rewards.
      rewards: by name, or None.
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
  """Casts the matrices of a parameter tree.

  Vectors and scalars (norms, scales) keep their dtype: they take little memory,
  and half precision would cost accuracy.
  """
  cast = lambda leaf: leaf.astype(dtype) if leaf.ndim > 1 else leaf
  return jax.tree.map(cast, params)
