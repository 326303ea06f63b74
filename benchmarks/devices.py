"""Peak rates of the devices that JAX finds."""

import jax

from benchmarks import timing
from softdimo_jax.planning.chips import CHIPS

# Prefixes of `device_kind`; a longer one comes before its own prefix.
_KINDS = {
  'TPU v4': 'v4',
  'TPU v5 lite': 'v5e',
  'TPU v5': 'v5p',
  'TPU v6': 'v6e',
  'NVIDIA A100': 'a100',
  'NVIDIA H100': 'h100',
  'NVIDIA H200': 'h100',  # the same chip with more memory
}


def published_peak(kind: str) -> float | None:
  """bfloat16 operations per second of a `device_kind`, None if unknown."""
  for start, chip in _KINDS.items():
    if kind.startswith(start):
      return CHIPS[chip].peak
  return None


def measured_peak(size: int = 2048, clock: str = 'wall') -> float:
  """Operations per second of one large float32 matrix product."""
  x = jax.random.normal(jax.random.key(0), (size, size))
  product = jax.jit(lambda x: x @ x)
  program = {'': lambda: product(x).block_until_ready()}
  times = timing.alternate(program, rounds=5, clock=clock)
  return 2 * size**3 / min(times[''])
