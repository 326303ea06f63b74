"""Random keys of a distillation step."""

from typing import NamedTuple

import jax


class Keys(NamedTuple):
  """Random keys of one step, one per purpose."""

  condition: jax.Array
  student: jax.Array
  sample: jax.Array
  gan: jax.Array
  auxiliary: jax.Array
  fresh: jax.Array
  reward: jax.Array

  @classmethod
  def of(cls, key: jax.Array) -> 'Keys':
    """Splits the key of a step or of a part of its batch."""
    return cls(*jax.random.split(key, len(cls._fields)))
