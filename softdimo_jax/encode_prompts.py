"""Features of prompts, computed once and read by every training.

  python -m softdimo_jax.encode_prompts --config=configs/maskgen.py \
      --config.pretrained.text=DIR --prompts=FILE --out=DIR

Prompts are a text file with one a line, a .jsonl file of objects, a .json list,
a .csv with a column `text`, a .parquet file or a folder of them, or a TFDS data
set with captions. The configuration says which text tower reads them and how.
Repeating the command continues an interrupted one. Exit codes: 0 finished, 2 a
mistake in the input, 75 stopped by a signal.
"""

import pathlib

from absl import flags

from softdimo_jax.data.cache import prompts as prompt_cache
from softdimo_jax.data.prompts import sources
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import config, config_flag, validation
from softdimo_jax.experiment.inputs import Prompts
from softdimo_jax.experiment.precompute.prompts import (
  EncodingOptions,
  encode,
)
from softdimo_jax.experiment.run import Run
from softdimo_jax.runtime import cli
from softdimo_jax.runtime.preemption import PreemptionNotice

_CONFIG = config_flag.define('configs/maskgen.py')
_PROMPTS = flags.DEFINE_string(
  'prompts', None, 'File or folder of prompts, or name of a TFDS data set.'
)
_FIELD = flags.DEFINE_string(
  'field',
  None,
  'Of the objects, the column or the TFDS feature (captions/text); by default '
  'the first of prompt, caption, text, captions.',
)
_DATA_DIR = flags.DEFINE_string(
  'data_dir', None, "Where TFDS's data lie; its own place by default."
)
_SPLIT = flags.DEFINE_string('split', None, 'Of TFDS; train by default.')
_OUT = flags.DEFINE_string('out', None, 'Folder of the prompt cache.')
_DTYPE = flags.DEFINE_enum(
  'dtype',
  'float32',
  prompt_cache.DTYPES,
  'Of the features on disk; float16 halves them.',
)
_BATCH_SIZE = flags.DEFINE_integer(
  'batch_size', 64, 'Prompts of a call, over all devices.', 1
)
_PROMPTS_PER_SHARD = flags.DEFINE_integer(
  'prompts_per_shard', 512, 'What an interruption may cost.', 1
)
flags.mark_flags_as_required(['config', 'prompts', 'out'])


def main(argv: list[str]) -> None:
  """Writes the cache and says what is in it."""
  cli.no_arguments(argv)
  notice = PreemptionNotice()
  notice.install()
  config.check_loaded(_CONFIG.value)
  validation.validate(_CONFIG.value)
  run = Run(pathlib.Path(_OUT.value).absolute(), _CONFIG.value)
  if not isinstance(run.inputs, Prompts):
    raise UserError(
      f'{_CONFIG.value.name} reads no prompts from a cache; choose '
      'configs/maskgen.py, configs/meissonic.py or one like them'
    )
  prompts = sources.read(
    _PROMPTS.value,
    field=_FIELD.value,
    split=_SPLIT.value,
    data_dir=_DATA_DIR.value,
  )
  options = EncodingOptions(
    dtype=_DTYPE.value,
    batch_size=_BATCH_SIZE.value,
    prompts_per_shard=_PROMPTS_PER_SHARD.value,
  )
  cache = encode(prompts, run.inputs, run.workdir, options, notice)
  print(f'{len(cache)} prompts in {_OUT.value}')


if __name__ == '__main__':
  cli.run(main)
