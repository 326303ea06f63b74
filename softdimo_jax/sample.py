"""Writes samples of a finished run as one grid, a PNG or JPEG file.

python -m softdimo_jax.sample --workdir=DIR --labels=0,1,2 --num=64
python -m softdimo_jax.sample --workdir=DIR --prompt="a red circle" --num=16
"""

import math
import time

import numpy as np
from absl import flags

from softdimo_jax.evaluation.sets import pictures
from softdimo_jax.experiment import methods, sampling_flags
from softdimo_jax.method import sampling
from softdimo_jax.runtime import cli, flag_types, memory

_NUM = flag_types.count(
  'num', 64, 'Number of images; labels or prompts repeat in order.'
)
_OUT = flag_types.picture(
  'out',
  'samples.png',
  'Picture to write; its ending chooses PNG or JPEG.',
  tuple(pictures.FORMATS),
)
_SCALE = flag_types.count(
  'scale',
  None,
  'Output pixels per image pixel; 4 for images below 128 px, else 1.',
)
_SAMPLER = sampling_flags.SamplerFlags.define()
flags.adopt_module_key_flags(sampling_flags)

_BATCH = 256


def main(argv: list[str]) -> None:
  """Writes the grid; prints its path, time and peak memory."""
  start = time.monotonic()
  cli.no_arguments(argv)
  run = sampling_flags.load_run()
  stage = run.generator(sampling_flags.MODEL.value)
  scale = sampling_flags.file_scale(run, _SCALE.value, 4)
  # Floats of the images, then the pixels of the grid and a copy of them.
  values = _NUM.value * math.prod(run.family.image_shape)
  sampling_flags.check_memory(
    f'--num={_NUM.value} with --scale={scale}', values * (4 + 2 * scale**2)
  )
  conditions = sampling_flags.conditions(run)
  size = min(run.config.sampling.get('batch_size', _BATCH), _NUM.value)
  method = methods.sampled(run, stage, size, **_SAMPLER.values)
  _, images = method.generate(
    run.params(stage),
    run.params('tokenizer'),
    sampling.image_keys(sampling_flags.SEED.value, _NUM.value),
    conditions.take(np.arange(_NUM.value) % len(conditions)),
    None,
  )
  grid = pictures.image_grid(images, scale=scale)
  pictures.save_picture(_OUT.value, grid)
  print(
    f'{_NUM.value} samples of {stage} in {_OUT.value} '
    f'({time.monotonic() - start:.1f} s, compilation included; '
    f'peak memory {memory.peak() / 1e9:.2f} GB)'
  )


if __name__ == '__main__':
  cli.run(main)
