from typing import Any

from absl import flags
from ml_collections import ConfigDict

def DEFINE_config_file(
  name: str,
  default: str | None = ...,
  help_string: str = ...,
  **kwargs: Any,
) -> flags.FlagHolder[ConfigDict]: ...
