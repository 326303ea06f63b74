"""Times of several programs, taken in turns."""

import statistics
import time
from collections.abc import Callable, Mapping

Times = dict[str, list[float]]
# Processor time does not count what other processes take. It is that of all
# threads together, so only on one core (`taskset -c 0`) is it a time of a step.
CLOCKS = {'wall': time.perf_counter, 'processor': time.process_time}


def alternate(
  programs: Mapping[str, Callable[[], None]],
  rounds: int,
  warmup: int = 2,
  clock: str = 'wall',
) -> Times:
  """Seconds of every call, by name.

  In turns, so that whatever else the machine does meets all programs alike.

  Args:
    programs: each returns when its work is done.
    rounds: calls of every program that count.
    warmup: calls before these; the first compiles.
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
  """How many times as fast as the reference: the median over the rounds."""
  pairs = zip(times[reference], times[name], strict=True)
  return statistics.median(theirs / ours for theirs, ours in pairs)
