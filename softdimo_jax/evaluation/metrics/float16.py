"""Squared distances with the rounding of ADM's evaluator.

guided-diffusion's evaluations/evaluator.py computes them in float16, which
affects its published precision and recall. Here every operation runs in float32
and is rounded to float16, which equals float16 arithmetic; the order of
summation is that of TensorFlow on CPU. Its GPU kernels may round differently.
"""

import math

import numpy as np

from softdimo_jax.evaluation.metrics.features import (
  Blocks,
  product_blocks,
  squared_distance_blocks,
)

# TensorFlow's float16 row sums on CPU: registers of eight lanes, four at a
# time in long rows, and rows of more than 200 registers in halves.
_LANES, _UNROLLED, _LEAF = 8, 4, 200


def float16_distance_blocks(x: np.ndarray, y: np.ndarray) -> Blocks:
  """Yields ADM's float16 squared distances between x [N, D] and y [M, D].

  Blocks are float32. As in ADM, distances that overflow float16 fall back to
  full precision: here all of them, there those of that 10,000 x 10,000 block.
  """
  if _fits(x, y):
    yield from _rounded_blocks(x, y)
  else:
    yield from squared_distance_blocks(x, y)


def _fits(x: np.ndarray, y: np.ndarray) -> bool:
  """Whether every distance is finite in float16."""
  longest = sum(np.sqrt(np.square(z).sum(1).max()) for z in (x, y))
  if longest**2 < 0.9 * np.finfo(np.float16).max:  # bounds all partial sums
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
  """Rounds to float16, stored as float32."""
  return x.astype(np.float16).astype(np.float32)


def _squared_norms(x: np.ndarray) -> np.ndarray:
  """|x|^2 [N] of float32 rows [N, D] with float16 values."""
  return _sum(_rounded(np.square(x)))


def _sum(x: np.ndarray) -> np.ndarray:
  """Row sums [N, D] -> [N] in TensorFlow's order of summation."""
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
  """Sequential sum over axis 1: [N, K, ...] -> [N, ...]."""
  total = np.zeros_like(x, shape=(len(x), *x.shape[2:]))
  for i in range(x.shape[1]):
    total = _rounded(total + x[:, i])
  return total
