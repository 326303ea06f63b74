"""Times of several programs, taken in turns."""

import statistics
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

Times = dict[str, list[float]]


def alternate(
  programs: Mapping[str, Callable[[], None]], rounds: int, warmup: int = 2
) -> Times:
  """Seconds of every call, by name.

  In turns, so that whatever else the machine does meets all programs alike.

  Args:
    programs: each returns when its work is done.
    rounds: calls of every program that count.
    warmup: calls before these; the first compiles.
  """
  for program in programs.values():
    for _ in range(warmup):
      program()
  times: Times = {name: [] for name in programs}
  for _ in range(rounds):
    for name, program in programs.items():
      start = time.perf_counter()
      program()
      times[name].append(time.perf_counter() - start)
  return times


def ratio(times: Times, name: str, reference: str) -> float:
  """How many times as fast as the reference: the median over the rounds."""
  pairs = zip(times[reference], times[name], strict=True)
  return statistics.median(theirs / ours for theirs, ours in pairs)


def measured_peak(size: int = 2048, rounds: int = 5) -> float:
  """Operations a second of one large float32 matrix product on this device."""
  x = jax.random.normal(jax.random.key(0), (size, size), jnp.float32)
  product = jax.jit(jnp.matmul)
  times = alternate({'': lambda: product(x, x).block_until_ready()}, rounds)
  return 2 * size**3 / min(times[''])
