"""Order of the names of files."""

import re

_NUMBER = re.compile('([0-9]+)')


def natural(name: str) -> tuple[tuple[tuple[str | int, ...], ...], str]:
  """Sort key by which numbers in names sort as numbers: 2.png before 10.png.

  Folders of a path sort one by one. Names that differ only in leading zeros
  sort as text.
  """
  return tuple(_parts(part) for part in name.split('/')), name


def _parts(name: str) -> tuple[str | int, ...]:
  """Text and numbers by turns, so that keys compare place by place."""
  parts = enumerate(_NUMBER.split(name))
  return tuple(int(part) if place % 2 else part for place, part in parts)
