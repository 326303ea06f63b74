"""Synthetic weights, drawn by rule from a listing of names and shapes.

They replace an official checkpoint where none is available: fixtures of the
official implementations were computed with them, and full-size runs use them to
avoid downloads. An entry depends only on its own name and shape, so a part of a
model has the same weights as in the whole.
"""

import math
import zlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import jax
import numpy as np

# Source of synthetic weights or vocabularies, in place of a path or Hub id.
RULE = 'rule'

# Name endings of multiplicative vectors, which are drawn around one.
_GAINS = ('weight', 'scale', 'gamma', 'logit_scale')

Listing = Iterable[tuple[str, tuple[int, ...], str]]


def rule_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Synthetic weights of one entry, float32 of `shape`.

  A standard normal draw, seeded with the CRC-32 of the name. Matrices and
  kernels are divided by the square root of the product of all axes but the
  first. Vectors are a tenth of the draw, around one if multiplicative, else
  around zero; running variances are at least one.
  """
  generator = np.random.default_rng(zlib.crc32(name.encode()))
  draw = generator.standard_normal(shape, np.float32)
  if len(shape) > 1:
    weight = draw / np.float32(math.sqrt(math.prod(shape[1:])))
  elif name.endswith('running_var'):
    weight = 1 + np.float32(0.1) * np.abs(draw)
  elif name.endswith(_GAINS):
    weight = 1 + np.float32(0.1) * draw
  else:
    weight = np.float32(0.1) * draw
  return np.asarray(weight, np.float32)


def rule_state_dict(
  listing: Listing,
  *,
  kept: Collection[str] = (),
  tied: Mapping[str, str] | None = None,
  gain: Mapping[str, float] | None = None,
  factors: Mapping[str, float] | None = None,
) -> dict[str, np.ndarray]:
  """Synthetic state dict of a listing (name, shape, dtype), without integers.

  Args:
    listing: listing of the official model.
    kept: entries to omit because the official code computes them.
    tied: entry -> name of the entry whose weights it shares.
    gain: `factor` for arrays with at least `min_ndim` axes.
    factors: factors of individual entries.

  Returns:
    Float32 arrays by official name.
  """
  tied, factors = tied or {}, factors or {}
  state = {}
  for name, shape, dtype in listing:
    if name in kept or not dtype.startswith('float'):
      continue
    weight = rule_weight(tied.get(name, name), tuple(shape))
    if gain and weight.ndim >= gain['min_ndim']:
      weight = weight * np.float32(gain['factor'])
    # A product with a scalar entry is not an array.
    state[name] = np.asarray(weight * np.float32(factors.get(name, 1)))
  return state


def rule_params(shapes: Any, *, kernel_gain: float = 1.0) -> Any:
  """Synthetic parameters of one of our modules, by the same rule on its names.

  The output axis of kernels, which is last, is moved first for the rule; layers
  stacked on axis 0 (in modules whose names end with `layers`) are drawn one by
  one. The values match no official checkpoint, but have sane magnitudes.

  Args:
    shapes: tree of `jax.ShapeDtypeStruct`.
    kernel_gain: factor for the kernels of convolutions. Without it the signal
      vanishes in long chains without norms; 1.5 preserves Inception's.

  Returns:
    The tree with float32 arrays.
  """

  def leaf(path: tuple[Any, ...], shape: jax.ShapeDtypeStruct) -> np.ndarray:
    drawn = _rule_leaf(path, shape)
    is_convolution = path[-1].key == 'kernel' and drawn.ndim == 4
    return drawn * np.float32(kernel_gain) if is_convolution else drawn

  return jax.tree_util.tree_map_with_path(leaf, shapes)


def _rule_leaf(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
  keys = [entry.key for entry in path]
  name = '/'.join(keys)
  if any(key.endswith('layers') for key in keys):
    draws = [
      _drawn(f'{name}/{i}', leaf.shape[1:]) for i in range(leaf.shape[0])
    ]
    return np.stack(draws)
  return _drawn(name, leaf.shape)


def _drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
  if len(shape) < 2 or 'kernel' not in name:
    return rule_weight(name, shape)
  return np.moveaxis(rule_weight(name, (shape[-1], *shape[:-1])), 0, -1)
