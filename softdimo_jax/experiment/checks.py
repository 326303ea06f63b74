"""Checks of single fields of a configuration.

All raise ValueError that names the field and its allowed values.
"""

from typing import Any


def choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
  """Checks that the value is one of the allowed ones."""
  if value not in allowed:
    raise ValueError(f'{name}={value!r} is unknown; choose one of {allowed}')


def divisor(name: str, value: int, whole: tuple[str, int]) -> None:
  """Checks that `value` divides `whole` = (name, size); 0 means all of it."""
  what, count = whole
  if value < 0 or (value and count % value):
    raise ValueError(
      f'{name}={value} must divide the {count} {what}, or be 0 for all at once'
    )


def between(name: str, value: float, low: float, high: float) -> None:
  """Checks that the value is in the closed interval."""
  if not low <= value <= high:
    raise ValueError(f'{name}={value} must be in [{low}, {high}]')
