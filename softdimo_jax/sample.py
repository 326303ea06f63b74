"""Samples from a finished run into one picture.

python -m softdimo_jax.sample --workdir=DIR --labels=0,1,2 --num=64
python -m softdimo_jax.sample --workdir=DIR --prompt="a red circle" --num=16
"""

import time

import jax
import numpy as np
from absl import flags

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.sets import pictures as images
from softdimo_jax.experiment import sampling_flags
from softdimo_jax.experiment.reports import rows
from softdimo_jax.runtime import cli, memory

_NUM = flags.DEFINE_integer(
  'num', 64, 'Number of images; labels or prompts repeat in their order.', 1
)
_OUT = flags.DEFINE_string('out', 'samples.png', 'PNG file to write.')
_SCALE = flags.DEFINE_integer(
  'scale', None, 'Pixels of the file a pixel; 4 of small images, else 1.', 1
)
_SAMPLER = sampling_flags.SamplerFlags.define()

_BATCH = 256


def main(argv: list[str]) -> None:
  """Writes the picture; says where it is and what it took."""
  start = time.monotonic()
  cli.no_arguments(argv)
  run = sampling_flags.load_run()
  stage = rows.generator_stage(run, sampling_flags.MODEL.value)
  request = sampling_flags.read(run)
  try:
    most = run.config.sampling.get('batch_size', _BATCH)
    sampler = _SAMPLER.sampler(run, stage, min(most, _NUM.value))
    _, pictures = sampler(
      run.params(stage),
      run.params('tokenizer'),
      jax.random.key(sampling_flags.SEED.value),
      request.take(np.arange(_NUM.value) % len(request)),
    )
  except ValueError as error:
    raise UserError(str(error)) from error
  scale = sampling_flags.file_scale(run, _SCALE.value, 4)
  grid = images.image_grid(pictures, scale=scale)
  images.save_png(_OUT.value, grid)
  print(
    f'{_NUM.value} samples of {stage} in {_OUT.value} '
    f'({time.monotonic() - start:.1f} s, compilation included; '
    f'peak memory {memory.peak() / 1e9:.2f} GB)'
  )


if __name__ == '__main__':
  cli.run(main)
