"""Encodes prompts once, into a cache of text features that training reads.

  python -m softdimo_jax.encode_prompts --config=configs/maskgen.py \
      --config.pretrained.text=DIR --prompts=FILE --out=DIR

Prompts are a text file with one prompt per line, a .jsonl, .json, .csv, .tsv or
.parquet file, a folder of parquet files, or a TFDS data set with captions. The
configuration names the text tower and its tokenization. Repeating the command
continues an interrupted one. Exit codes: see `softdimo_jax.runtime.cli`.
"""

import pathlib

from absl import flags

from softdimo_jax.data.cache import prompts as prompt_cache
from softdimo_jax.data.prompts import sources
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import config_flag, validation
from softdimo_jax.experiment.inputs import Prompts
from softdimo_jax.experiment.precompute.prompts import (
  EncodingOptions,
  encode,
)
from softdimo_jax.experiment.run import Run
from softdimo_jax.runtime import cli, flag_types, lock
from softdimo_jax.runtime.preemption import PreemptionNotice

_CONFIG = config_flag.define('configs/maskgen.py')
_PROMPTS = flag_types.path(
  'prompts',
  None,
  'File or folder of prompts, or name of a TFDS data set.',
  required=True,
)
_FIELD = flags.DEFINE_string(
  'field',
  None,
  'Key of the objects, column, or TFDS feature (e.g. captions/text); default: '
  'the first of prompt, caption, text, captions that exists.',
)
_DATA_DIR = flag_types.tfds_folder(
  'data_dir', "Folder of TFDS's data; default: TFDS's own."
)
_SPLIT = flags.DEFINE_string(
  'split', None, 'Split of the TFDS data set; default: train.'
)
_OUT = flag_types.output(
  'out', None, 'Output folder of the prompt cache.', required=True
)
_DTYPE = flags.DEFINE_enum(
  'dtype',
  'float32',
  prompt_cache.DTYPES,
  'Data type of the features on disk; float16 halves their size.',
)
_BATCH_SIZE = flag_types.count(
  'batch_size', 64, 'Prompts per call, over all devices.'
)
_PROMPTS_PER_SHARD = flag_types.count(
  'prompts_per_shard',
  512,
  'Prompts per shard; an interruption loses at most one shard.',
)
flags.mark_flag_as_required('config')


def main(argv: list[str]) -> None:
  """Writes the cache and prints its size."""
  cli.no_arguments(argv)
  notice = PreemptionNotice()
  notice.install()
  settings = config_flag.read(_CONFIG)
  validation.validate(settings)
  run = Run(pathlib.Path(_OUT.value).absolute(), settings)
  if not isinstance(run.inputs, Prompts):
    raise UserError(
      f'{settings.name} does not read a prompt cache; choose '
      'configs/maskgen.py, configs/meissonic.py or a similar configuration'
    )
  prompts = sources.read(
    _PROMPTS.value,
    field=_FIELD.value,
    split=_SPLIT.value,
    data_dir=_DATA_DIR.value,
  )
  print(prompts)
  options = EncodingOptions(
    dtype=_DTYPE.value,
    batch_size=_BATCH_SIZE.value,
    prompts_per_shard=_PROMPTS_PER_SHARD.value,
  )
  with lock.held(run.workdir):
    cache = encode(prompts, run.inputs, run.workdir, options, notice)
  print(f'{len(cache)} prompts in {_OUT.value}')


if __name__ == '__main__':
  cli.run(main)
