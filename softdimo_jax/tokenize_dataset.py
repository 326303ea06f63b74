"""Tokenizes a data set once, into a cache that training reads.

  python -m softdimo_jax.tokenize_dataset --data=NAME --tokenizer=DIR --out=DIR

Repeating the command continues an interrupted one. Exit codes: see
`softdimo_jax.runtime.cli`.
"""

import pathlib

from absl import flags

from softdimo_jax.data.cache.records import MANIFEST
from softdimo_jax.data.images import streams
from softdimo_jax.experiment.precompute.tokens import (
  TokenizationOptions,
  load_tokenizer,
  tokenize,
)
from softdimo_jax.runtime import cli, flag_types, lock
from softdimo_jax.runtime.preemption import PreemptionNotice

_DATA = flag_types.path(
  'data',
  None,
  'Image folder (one subfolder per class), or name of a TFDS data set.',
  required=True,
)
_DATA_DIR = flag_types.tfds_folder(
  'data_dir', "Folder of TFDS's data; default: TFDS's own."
)
_SPLIT = flags.DEFINE_string(
  'split', None, 'Split of the TFDS data set; default: train.'
)
_TOKENIZER = flag_types.path(
  'tokenizer', None, 'Folder written by python -m softdimo_jax.convert.'
)
_WORKDIR = flag_types.path(
  'workdir', None, 'Workdir of a run whose tokenizer is used instead.'
)
_OUT = flag_types.output(
  'out', None, 'Output folder of the token cache.', required=True
)
_SIZE = flag_types.count('size', 256, 'Height and width in pixels.')
_FLIP = flags.DEFINE_bool('flip', False, 'Also tokenize the mirrored images.')
_BATCH_SIZE = flag_types.count(
  'batch_size', 64, 'Images per call, over all devices.'
)
_IMAGES_PER_SHARD = flag_types.count(
  'images_per_shard',
  4096,
  'Images per shard; an interruption loses at most one shard.',
)
flags.mark_flags_as_mutual_exclusive(['tokenizer', 'workdir'], required=True)

_SHOWN = 10  # names of unreadable images that are printed


def main(argv: list[str]) -> None:
  """Writes the cache and prints its size."""
  cli.no_arguments(argv)
  notice = PreemptionNotice()
  notice.install()
  tokenizer, params = load_tokenizer(_TOKENIZER.value, _WORKDIR.value)
  source = streams.open_source(
    _DATA.value,
    split=_SPLIT.value,
    data_dir=_DATA_DIR.value,
    channels=tokenizer.in_channels,
  )
  options = TokenizationOptions(
    size=_SIZE.value,
    flip=_FLIP.value,
    batch_size=_BATCH_SIZE.value,
    images_per_shard=_IMAGES_PER_SHARD.value,
  )
  folder = pathlib.Path(_OUT.value).absolute()
  with lock.held(folder):
    cache = tokenize(source, tokenizer, params, folder, options, notice)
  print(f'{len(cache)} records of {len(source)} images in {folder}')
  if cache.skipped:
    shown = ', '.join(cache.skipped[:_SHOWN])
    more = ', ...' if len(cache.skipped) > _SHOWN else ''
    print(
      f'{len(cache.skipped)} unreadable images were left out '
      f'({MANIFEST} lists them): {shown}{more}'
    )


if __name__ == '__main__':
  cli.run(main)
