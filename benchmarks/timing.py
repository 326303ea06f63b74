"""Times of several programs, taken in turns."""

import statistics
import time
from collections.abc import Callable, Mapping

Times = dict[str, list[float]]
# Processor time excludes other processes. It is summed over all threads, so it
# is the time of a step only on one core (`taskset -c 0`).
CLOCKS = {'wall': time.perf_counter, 'processor': time.process_time}


def alternate(
  programs: Mapping[str, Callable[[], None]],
  rounds: int,
  warmup: int = 2,
  clock: str = 'wall',
) -> Times:
  """Times programs in turns; returns the seconds of every call by name.

  Taking turns makes other load on the machine affect all programs alike.

  Args:
    programs: each returns once its work is done.
    rounds: timed calls of every program.
    warmup: calls before these; the first one compiles.
    clock: key of CLOCKS.
  """
  now = CLOCKS[clock]
  for program in programs.values():
    for _ in range(warmup):
      program()
  times: Times = {name: [] for name in programs}
  for _ in range(rounds):
    for name, program in programs.items():
      start = now()
      program()
      times[name].append(now() - start)
  return times


def ratio(times: Times, name: str, reference: str) -> float:
  """Speed relative to the reference: the median over the rounds."""
  pairs = zip(times[reference], times[name], strict=True)
  return statistics.median(theirs / ours for theirs, ours in pairs)
