"""Process memory: allocator settings and peak usage."""

import ctypes
from collections.abc import Callable

import jax

from softdimo_jax.runtime import system

# Parameters of mallopt, <malloc.h>.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8


def keep_freed() -> None:
  """Makes glibc keep freed blocks instead of returning them to the system.

  On CPU, XLA allocates its temporary buffers anew at every step; paging them in
  again takes a third of the step at laptop size.
  """
  mallopt = _of_glibc('mallopt')
  if mallopt is not None:
    # Heaps of other arenas hold at most 64 MB; XLA's threads would map and
    # return larger blocks at every step.
    mallopt(_M_ARENA_MAX, 1)
    # Larger blocks (parameters of full-size models) are still returned.
    mallopt(_M_MMAP_THRESHOLD, 2**27)
    mallopt(_M_TRIM_THRESHOLD, 2**30)
    mallopt(_M_TOP_PAD, 2**28)


def return_freed() -> None:
  """Returns freed blocks once, after loading and compiling."""
  trim = _of_glibc('malloc_trim')
  if trim is not None:
    trim(0)


def peak() -> int:
  """Peak bytes: the largest of the local devices, or else of this process."""
  stats = [device.memory_stats() or {} for device in jax.local_devices()]
  peaks = [x['peak_bytes_in_use'] for x in stats if 'peak_bytes_in_use' in x]
  if peaks:
    return max(peaks)
  return system.peak_memory()


def _of_glibc(name: str) -> Callable[..., int] | None:
  """A function of the C library; None on musl and macOS."""
  return getattr(ctypes.CDLL(None), name, None)
