"""Changes of a configuration by dotted names."""

from typing import Any

from ml_collections import ConfigDict


def override(config: ConfigDict, name: str, value: Any) -> None:
  """Sets a field, also to a value that the command line would refuse."""
  *parents, field = name.split('.')
  section = config
  for parent in parents:
    section = section[parent]
  section[field] = value
