"""Flags of both benchmarks, and the file that they write.

A command calls `Options.define` and `flags.adopt_module_key_flags(options)`,
which lists the flags under its --help.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from absl import flags

from benchmarks import sizes, timing


@dataclasses.dataclass(frozen=True)
class Options:
  """Flags that have been defined.

  Attributes:
    size: one of `sizes.SIZES`.
    batch_size: images per call; 0 for the size's own.
    dtype: of the matrix products.
    rounds: timed calls of each program.
    clock: one of `timing.CLOCKS`.
    out: JSON file, or None.
  """

  size: flags.FlagHolder[str]
  batch_size: flags.FlagHolder[int]
  dtype: flags.FlagHolder[str]
  rounds: flags.FlagHolder[int]
  clock: flags.FlagHolder[str]
  out: flags.FlagHolder[str | None]

  @classmethod
  def define(cls, size: str) -> 'Options':
    """Defines the flags; `size` is the default."""
    return cls(
      flags.DEFINE_enum('size', size, sizes.SIZES, 'Networks to time.'),
      flags.DEFINE_integer(
        'batch_size',
        0,
        "Images per call; 0 for the size's own.",
        lower_bound=0,
      ),
      flags.DEFINE_enum(
        'dtype',
        'float32',
        ('float32', 'bfloat16'),
        'Dtype of the matrix products of our generator.',
      ),
      flags.DEFINE_integer(
        'rounds', 7, 'Timed calls of each program.', lower_bound=1
      ),
      flags.DEFINE_enum(
        'clock',
        'wall',
        tuple(timing.CLOCKS),
        'Use processor on a shared machine, on one core (taskset -c 0).',
      ),
      flags.DEFINE_string('out', None, 'JSON file for the measurements.'),
    )

  def write(self, result: Mapping[str, Any]) -> None:
    """Writes `result` to --out, if given."""
    if self.out.value:
      text = json.dumps(result, indent=2)
      pathlib.Path(self.out.value).write_text(text + '\n', encoding='utf-8')
