"""Checks of one field of a configuration.

All raise ValueError, naming the field and its allowed values.
"""

from typing import Any


def choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
  """Refuses a value that is not one of the allowed ones."""
  if value not in allowed:
    raise ValueError(f'{name}={value!r} is unknown; choose one of {allowed}')


def divisor(name: str, value: int, whole: tuple[str, int]) -> None:
  """Refuses what does not divide `whole`, (its name, its size); 0 is all."""
  what, count = whole
  if value < 0 or (value and count % value):
    raise ValueError(
      f'{name}={value} must divide the {count} {what}, or be 0 for all at once'
    )


def between(name: str, value: float, low: float, high: float) -> None:
  """Refuses a value outside the closed interval."""
  if not low <= value <= high:
    raise ValueError(f'{name}={value} must lie in [{low}, {high}]')
