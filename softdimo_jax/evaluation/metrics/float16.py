"""Squared distances with the rounding of ADM's evaluator.

guided-diffusion's evaluations/evaluator.py computes them in float16, a choice
that its published precision and recall contain. Here every operation is done
in float32 and rounded to float16, which gives what float16 arithmetic gives;
the order of summation is TensorFlow's on CPU. Its GPU kernels may round
otherwise.
"""

import math

import numpy as np

from softdimo_jax.evaluation.metrics.features import (
  Blocks,
  product_blocks,
  squared_distance_blocks,
)

# How TensorFlow sums a row of float16 on CPU: registers of eight lanes, four
# at a time in long rows, and halves of rows beyond 200 registers.
_LANES, _UNROLLED, _LEAF = 8, 4, 200


def float16_distance_blocks(x: np.ndarray, y: np.ndarray) -> Blocks:
  """Yields float32 squared distances of x [N, D] to y [M, D] as ADM has them.

  Like there, distances that do not fit into float16 are computed in full
  precision, here all of them, there those of the same 10,000 x 10,000.
  """
  if _fits(x, y):
    yield from _rounded_blocks(x, y)
  else:
    yield from squared_distance_blocks(x, y)


def _fits(x: np.ndarray, y: np.ndarray) -> bool:
  """Whether every distance is finite in float16."""
  longest = sum(np.sqrt(np.square(z).sum(1).max()) for z in (x, y))
  if longest**2 < 0.9 * np.finfo(np.float16).max:  # no partial sum exceeds it
    return True
  return all(np.isfinite(block).all() for _, block in _rounded_blocks(x, y))


def _rounded_blocks(x: np.ndarray, y: np.ndarray) -> Blocks:
  with np.errstate(over='ignore', invalid='ignore'):
    x, y = _rounded(x), _rounded(y)
    x_norms, y_norms = _squared_norms(x), _squared_norms(y)
  for rows, products in product_blocks(x, y):
    with np.errstate(over='ignore', invalid='ignore'):
      squared = _rounded(x_norms[rows, None] - _rounded(2 * _rounded(products)))
      squared = _rounded(squared + y_norms)
    yield rows, np.maximum(squared, 0)


def _rounded(x: np.ndarray) -> np.ndarray:
  """float32 values, those of float16 only."""
  return x.astype(np.float16).astype(np.float32)


def _squared_norms(x: np.ndarray) -> np.ndarray:
  """|x|^2 of float32 rows [N, D] that hold float16 values: [N]."""
  return _sum(_rounded(np.square(x)))


def _sum(x: np.ndarray) -> np.ndarray:
  """Row sums [N, D] -> [N] in TensorFlow's order."""
  width = x.shape[1]
  if width > _LANES * _LEAF:
    half = math.ceil(math.ceil(width / 2) / _LANES) * _LANES
    return _rounded(_sum(x[:, :half]) + _sum(x[:, half:]))
  whole = width // _LANES * _LANES
  registers = x[:, :whole].reshape(len(x), -1, _LANES)
  unrolled = registers.shape[1] // _UNROLLED * _UNROLLED
  chains = [registers[:, i:unrolled:_UNROLLED] for i in range(_UNROLLED)]
  lanes = _chain(np.stack([_chain(chain) for chain in chains], 1))
  for register in range(unrolled, registers.shape[1]):
    lanes = _rounded(lanes + registers[:, register])
  rest = _chain(x[:, whole:])
  return _rounded(rest + _rounded(lanes.sum(1)))


def _chain(x: np.ndarray) -> np.ndarray:
  """Sum over axis 1, one addend after the other: [N, K, ...] -> [N, ...]."""
  total = np.zeros_like(x, shape=(len(x), *x.shape[2:]))
  for i in range(x.shape[1]):
    total = _rounded(total + x[:, i])
  return total
