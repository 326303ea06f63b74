"""What Linux and macOS say about memory, each in its own way."""

import os
import resource
import sys


def free_memory() -> int:
  """Bytes of host memory that are free; on macOS, all of the machine."""
  # macOS does not tell the free pages by this name.
  for pages in ('SC_AVPHYS_PAGES', 'SC_PHYS_PAGES'):
    if pages in os.sysconf_names:
      return os.sysconf(pages) * os.sysconf('SC_PAGE_SIZE')
  return sys.maxsize  # unknown: nothing is refused


def peak_memory() -> int:
  """Largest resident size of this process so far, in bytes."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == 'darwin' else peak * 1024
