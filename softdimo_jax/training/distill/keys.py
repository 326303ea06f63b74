"""Random keys of a distillation step."""

import zlib
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


def tagged(key: jax.Array, purpose: str, number: int = 0) -> jax.Array:
  """A further key of the step, apart from those that `Keys` splits off.

  `purpose` also keeps it apart from the keys of parts of a batch, whose index
  is folded in.
  """
  tag = zlib.crc32(purpose.encode())
  return jax.random.fold_in(jax.random.fold_in(key, tag), number)
