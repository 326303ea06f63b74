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
from softdimo_jax.runtime import cli, lock
from softdimo_jax.runtime.preemption import PreemptionNotice

_NUM = flags.DEFINE_integer(
  'num', 50_000, 'Number of images, split evenly over classes or prompts.', 1
)
_OUT = flags.DEFINE_string(
  'out', None, 'Output: an .npz file, or else a folder.', required=True
)
_BATCH_SIZE = flags.DEFINE_integer(
  'batch_size', 64, 'Images generated per call, over all devices.', 1
)
_SAMPLER = sampling_flags.SamplerFlags.define()
flags.adopt_module_key_flags(sampling_flags)


def main(argv: list[str]) -> None:
  """Writes the images and prints their path."""
  cli.no_arguments(argv)
  notice = PreemptionNotice()
  notice.install()
  run = sampling_flags.load_run()
  stage = run.generator(sampling_flags.MODEL.value)
  conditions = sampling_flags.conditions(run)
  order = np.arange(_NUM.value) % len(conditions)
  seed = sampling_flags.SEED.value
  with lock.held(_OUT.value):
    export = _open(run, stage, conditions)
    size = min(_BATCH_SIZE.value, export.images_per_range, _NUM.value)
    method = methods.sampled(run, stage, size, **_SAMPLER.values)
    samples = RunImages(run, method, conditions, order, seed)
    images.write(samples, export, 'export', notice)
  print(f'{_NUM.value} images of {stage} in {_OUT.value}')


def _open(run: Run, stage: str, conditions: Conditions) -> ImageExport:
  kind = NpzExport if _OUT.value.endswith('.npz') else PngExport
  made_by = {
    'config': run.config.to_dict(),
    'stage': stage,
    **_SAMPLER.values,
    'conditions': list(conditions.names),
    'seed': sampling_flags.SEED.value,
    'batch_size': _BATCH_SIZE.value,
  }
  return kind(_OUT.value, num_images=_NUM.value, made_by=made_by)


if __name__ == '__main__':
  cli.run(main)
