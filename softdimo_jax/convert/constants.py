"""Buffers that are no parameters: ranges, causal masks and counters.

Files of older versions contain them, in any format. The modules compute their
values themselves; others are refused, because the network that was trained with
them computes something else.
"""

import re
from typing import Any

import jax
import numpy as np

_RANGE = re.compile(r'(?:.+\.)?position_ids')
_MASK = re.compile(r'(?:.+\.)?attn_mask')
_COUNTER = re.compile(r'(?:.+\.)?num_batches_tracked')


def is_constant(name: str, array: Any) -> bool:
  """Whether an official entry is a buffer that the modules compute.

  Args:
    name: official name.
    array: its value, or `jax.ShapeDtypeStruct`.

  Raises:
    ValueError: if it has another value than the modules'.
  """
  if _COUNTER.fullmatch(name):
    return True
  if _RANGE.fullmatch(name):
    expected = lambda: np.arange(array.size).reshape(array.shape)
  elif _MASK.fullmatch(name):
    expected = lambda: np.triu(np.full(array.shape, -np.inf, np.float32), 1)
  else:
    return False
  if isinstance(array, jax.ShapeDtypeStruct):
    return True
  if array.ndim not in (1, 2) or not np.array_equal(array, expected()):
    raise ValueError(
      f'{name} is neither a range nor a causal mask, so that this network '
      'differs from ours'
    )
  return True
