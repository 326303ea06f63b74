"""Which numbers a flag or a field of a configuration takes."""

import dataclasses
import math
from typing import Any

import numpy as np

# Networks compute in float32: beyond these, a product or a quotient of two
# numbers is infinite or 0, and NaN without a word.
LARGEST, SMALLEST = 1e30, 1e-30
# Arrays are indexed by int32.
MOST = 2**31 - 1
_NUMBERS = (int, float, np.integer, np.floating)
# Keys of JAX are made of 32 bits: other seeds would repeat those of a smaller.
LAST_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class Bounds:
  """A range of finite numbers.

  Attributes:
    low: lowest number.
    high: highest number.
    whole: whether fractions are refused.
    above: whether `low` itself is refused.
  """

  low: float = -LARGEST
  high: float = LARGEST
  whole: bool = False
  above: bool = False

  def problem(self, value: Any) -> str:
    """What the value must be, in words; '' if it is that."""
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
      return f'must be a {self}'
    if not math.isfinite(value) or (self.whole and value != int(value)):
      return f'must be a {self}'
    inside = self.low <= value <= self.high
    if not inside or (self.above and value == self.low):
      return f'must be {self._interval}'
    if 0 < abs(value) < SMALLEST:
      return f'must be 0 or at least {SMALLEST:g} in size'
    return ''

  def check(self, name: str, value: Any) -> None:
    """Raises ValueError, naming the field, for another value."""
    problem = self.problem(value)
    if problem:
      raise ValueError(f'{name}={value!r} {problem}')

  def __str__(self) -> str:
    kind = 'whole number' if self.whole else 'finite number'
    return f'{kind} {self._interval}'

  @property
  def _interval(self) -> str:
    if -self.low == self.high == LARGEST:
      return f'of at most {LARGEST:g} in size'
    if self.above:
      return f'above {_shown(self.low)} and at most {_shown(self.high)}'
    if self.high in (LARGEST, MOST) and self.low > -LARGEST:
      return f'at least {_shown(self.low)} and at most {_shown(self.high)}'
    return f'in [{_shown(self.low)}, {_shown(self.high)}]'


def count(low: int = 1, high: int = MOST) -> Bounds:
  """Whole numbers from `low`."""
  return Bounds(low, high, whole=True)


SEED = count(0, LAST_SEED)
SHARE = Bounds(0, 1)
NOT_NEGATIVE = Bounds(0)
POSITIVE = Bounds(0, above=True)
# Larger ones overflow the logits that they multiply or divide.
GUIDANCE = Bounds(0, 1000)
TEMPERATURE = Bounds(0, 1000)


def _shown(value: float) -> str:
  return str(value) if isinstance(value, int) else f'{value:g}'
