"""How a network is called with its parameters."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn

from softdimo_jax.types import Params


def call(
  module: nn.Module,
  params: Params,
  *inputs: Any,
  method: str | Callable[..., Any] | None = None,
  **options: Any,
) -> Any:
  """Output of a method of a network, by default `__call__`.

  `nn.Module.apply` without mutable collections, which its return type includes.
  """
  return module.apply({'params': params}, *inputs, method=method, **options)
