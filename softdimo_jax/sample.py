"""Samples from a finished run into one picture.

python -m softdimo_jax.sample --workdir=DIR --labels=0,1,2 --num=64
"""

import pathlib

import jax
import numpy as np
from absl import flags

from softdimo_jax import cli, config, pipeline, results
from softdimo_jax.errors import UserError
from softdimo_jax.evaluation import images

_WORKDIR = flags.DEFINE_string('workdir', None, 'Workdir of a run.')
_MODEL = flags.DEFINE_string(
  'model', None, 'Stage to sample from; the last one of the run by default.'
)
_LABELS = flags.DEFINE_list('labels', None, 'Classes, e.g. 0,1,2; default all.')
_NUM = flags.DEFINE_integer(
  'num', 64, 'Number of images; the labels repeat in their order.', 1
)
_OUT = flags.DEFINE_string('out', 'samples.png', 'PNG file to write.')
_STEPS = flags.DEFINE_integer(
  'steps', None, "The teacher's steps; the configuration's by default.", 1
)
_GUIDANCE = flags.DEFINE_float(
  'guidance_scale',
  None,
  "The teacher's s in u + s (c - u); the configuration's by default.",
)
_TEMPERATURE = flags.DEFINE_float(
  'temperature', None, 'Of the draw; 0 is the arg max.', 0.0
)
_SEED = flags.DEFINE_integer('seed', 0, 'Of the samples.')
_SCALE = flags.DEFINE_integer('scale', 4, 'Pixels of the file a pixel.', 1)
flags.mark_flag_as_required('workdir')

_BATCH = 256


def main(argv: list[str]) -> None:
  """Writes the picture and says where it is."""
  cli.no_arguments(argv)
  workdir = pathlib.Path(_WORKDIR.value).absolute()
  run = pipeline.Run(workdir, config.load(workdir))
  stage = results.generator_stage(run, _MODEL.value)
  labels = np.resize(_labels(run.family.null_label), _NUM.value)
  try:
    sampler = results.sampler(
      run,
      stage,
      min(_BATCH, _NUM.value),
      steps=_STEPS.value,
      guidance_scale=_GUIDANCE.value,
      temperature=_TEMPERATURE.value,
    )
    _, pictures = sampler(
      run.params(stage),
      run.params('tokenizer'),
      jax.random.key(_SEED.value),
      labels,
    )
  except ValueError as error:
    raise UserError(str(error)) from error
  grid = images.image_grid(pictures, scale=_SCALE.value)
  images.save_png(_OUT.value, grid)
  print(f'{_NUM.value} samples of {stage} in {_OUT.value}')


def _labels(classes: int) -> np.ndarray:
  try:
    labels = [int(label) for label in _LABELS.value or range(classes)]
  except ValueError as error:
    raise UserError(
      f'--labels={",".join(_LABELS.value)} must be numbers, e.g. 0,1,2'
    ) from error
  outside = [label for label in labels if not 0 <= label < classes]
  if outside:
    raise UserError(
      f'label {outside[0]} is out of range; this run knows 0 to {classes - 1}'
    )
  return np.array(labels, np.int32)


if __name__ == '__main__':
  cli.run(main)
