"""Writes samples of a run for external metrics: an .npz file or a PNG folder.

  python -m softdimo_jax.export --workdir=DIR --num=50000 --out=samples.npz

If --out ends with .npz, one file with `arr_0`, uint8 [N, H, W, 3], is written,
the format of ADM's evaluator; otherwise a folder of PNG files. Repeating the
command continues an interrupted export. Exit codes: see
`softdimo_jax.runtime.cli`.
"""

import numpy as np
from absl import flags

from softdimo_jax.evaluation.sets.writers import (
  ImageExport,
  NpzExport,
  PngExport,
)
from softdimo_jax.experiment import images, methods, sampling_flags
from softdimo_jax.experiment.images import RunImages
from softdimo_jax.experiment.inputs import Conditions
from softdimo_jax.experiment.run import Run
from softdimo_jax.runtime import cli, flag_types, lock
from softdimo_jax.runtime.preemption import PreemptionNotice

_NUM = flag_types.count(
  'num', 50_000, 'Number of images, split evenly over classes or prompts.'
)
_OUT = flag_types.output(
  'out',
  None,
  'Output: an .npz file, or else a folder.',
  required=True,
  folder=lambda path: not path.endswith('.npz'),
)
_BATCH_SIZE = flag_types.count(
  'batch_size',
  None,
  'Images generated per call, over all devices; default: '
  'config.sampling.batch_size, or else 64.',
)
_SAMPLER = sampling_flags.SamplerFlags.define()
flags.adopt_module_key_flags(sampling_flags)

_PER_RANGE = 500  # images; an interruption loses at most these


def main(argv: list[str]) -> None:
  """Writes the images and prints their path."""
  cli.no_arguments(argv)
  notice = PreemptionNotice()
  notice.install()
  run = sampling_flags.load_run()
  stage = run.generator(sampling_flags.MODEL.value)
  conditions = sampling_flags.conditions(run)
  batch = _BATCH_SIZE.value or sampling_flags.images_per_call(run)
  size = min(batch, _PER_RANGE, _NUM.value)
  # First, since it refuses flags: nothing is written before.
  method = methods.sampled(run, stage, size, **_SAMPLER.values)
  order = np.arange(_NUM.value) % len(conditions)
  seed = sampling_flags.SEED.value
  with lock.held(_OUT.value):
    export = _open(run, stage, conditions, batch)
    samples = RunImages(run, method, conditions, order, seed)
    images.write(samples, export, 'export', notice)
  print(f'{_NUM.value} images of {stage} in {_OUT.value}')


def _open(
  run: Run, stage: str, conditions: Conditions, batch: int
) -> ImageExport:
  kind = NpzExport if _OUT.value.endswith('.npz') else PngExport
  made_by = {
    'config': run.config.to_dict(),
    'stage': stage,
    **_SAMPLER.values,
    'conditions': list(conditions.names),
    'seed': sampling_flags.SEED.value,
  }
  return kind(
    _OUT.value,
    num_images=_NUM.value,
    made_by=made_by,
    images_per_range=_PER_RANGE,
  )


if __name__ == '__main__':
  cli.run(main)
