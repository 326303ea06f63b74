"""Runs modules and records their intermediate outputs for comparison."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from softdimo_jax.method.soft_embedding import (
  soft_embedding,
  soft_masked_embedding,
)
from softdimo_jax.types import Params

# A numpy array; functions that are typed for `jax.Array` take it as it is.
Array = Any
Arrays = Mapping[str, Array]
# Path of a submodule, joined by '/' -> its output.
OutputOf = Callable[[str], Any]


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
  """`jax.jit` at full matmul precision.

  A fixture runs only once, so compiling would take longer than running; the
  expensive passes of XLA's CPU compiler are therefore off.
  """
  options = {}
  if jax.default_backend() == 'cpu':
    options = {'xla_backend_optimization_level': 0}
  run = jax.jit(function, compiler_options=options)

  def precise(*args: Any) -> Any:
    with jax.default_matmul_precision('highest'):
      return run(*args)

  return precise


def apply(
  module: nn.Module,
  params: Params,
  *args: Any,
  method: str | Callable[..., Any] | None = None,
) -> tuple[Any, OutputOf]:
  """Result of a method, and a look-up of submodules' outputs.

  The look-up returns the output of a submodule's last call, or None if it was
  not called. Outputs under `nn.scan` are stacked.
  """
  result, state = module.apply(
    {'params': params},
    *args,
    method=method,
    capture_intermediates=True,
    mutable='intermediates',
  )

  def output_of(path: str) -> Any:
    node = state['intermediates']
    for name in path.split('/'):
      if name not in node:
        return None
      node = node[name]
    return node['__call__'][-1]

  return result, output_of


def soft_path(
  forward: Callable[[jax.Array], jax.Array],
  table: jax.Array,
  logits: Array,
  cotangent: Array | None = None,
  mask: Array | None = None,
) -> tuple[jax.Array, jax.Array, Any]:
  """The path of Soft-Di[M]O's gradients.

  Args:
    forward: function of embeddings [B, L, D].
    table: [G, C, D], or [G, C + 1, D] with `mask`.
    logits: [B, L, G, C].
    cotangent: cotangent of `forward`'s result; None for no gradient.
    mask: bool [B, L, G], True where the table's last row replaces the
      expectation.

  Returns:
    (soft embeddings, their `forward`, gradient of the logits or None).
  """

  def run(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    probabilities = jax.nn.softmax(logits)
    if mask is None:
      embeddings = soft_embedding(probabilities, table)
    else:
      embeddings = soft_masked_embedding(probabilities, table, mask)
    return forward(embeddings), embeddings

  if cotangent is None:
    result, embeddings = run(logits)
    return embeddings, result, None
  result, pullback, embeddings = jax.vjp(run, logits, has_aux=True)
  return embeddings, result, pullback(cotangent)[0]


def to_nhwc(x: Array) -> Array:
  """Moves channels last: [B, C, H, W] -> [B, H, W, C]."""
  return np.transpose(x, (0, 2, 3, 1))


def to_nchw(x: jax.Array) -> jax.Array:
  """[B, H, W, C], or [B, L, C] with a square L -> [B, C, H, W]."""
  if x.ndim == 3:
    side = int(x.shape[1] ** 0.5)
    x = x.reshape(x.shape[0], side, side, -1)
  return x.transpose(0, 3, 1, 2)
