"""Many samples of a run for other people's metrics: .npz or a PNG folder.

  python -m softdimo_jax.export --workdir=DIR --num=50000 --out=samples.npz

An --out that ends with .npz becomes one file with `arr_0`, uint8 [N, H, W, 3],
as ADM's evaluator reads it; anything else a folder of PNG files. Repeating the
command continues an interrupted one. Exit codes: 0 finished, 2 a mistake in
the input, 75 stopped by a signal.
"""

import numpy as np
from absl import flags

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.sets.writers import (
  ImageExport,
  NpzExport,
  PngExport,
)
from softdimo_jax.experiment import images as generated
from softdimo_jax.experiment import sampling_flags
from softdimo_jax.experiment.images import RunImages
from softdimo_jax.experiment.reports import rows
from softdimo_jax.experiment.run import Run
from softdimo_jax.runtime import cli
from softdimo_jax.runtime.preemption import PreemptionNotice
from softdimo_jax.runtime.progress import Progress

_NUM = flags.DEFINE_integer(
  'num', 50_000, 'Images; as many of each class or prompt, give or take one.', 1
)
_OUT = flags.DEFINE_string('out', None, 'File ending with .npz, or a folder.')
_BATCH_SIZE = flags.DEFINE_integer(
  'batch_size', 64, 'Images of a call, over all devices.', 1
)
_SAMPLER = sampling_flags.SamplerFlags.define()
flags.mark_flag_as_required('out')


def main(argv: list[str]) -> None:
  """Writes the images and says where they are."""
  cli.no_arguments(argv)
  notice = PreemptionNotice()
  notice.install()
  run = sampling_flags.load_run()
  stage = rows.generator_stage(run, sampling_flags.MODEL.value)
  request = sampling_flags.read(run)
  export = _open(run, stage, request)
  try:
    _fill(export, run, stage, request, notice)
  except ValueError as error:
    raise UserError(str(error)) from error
  export.finish()
  print(f'{_NUM.value} images of {stage} in {_OUT.value}')


def _open(run: Run, stage: str, request: sampling_flags.Request) -> ImageExport:
  kind = NpzExport if _OUT.value.endswith('.npz') else PngExport
  made_by = {
    'config': run.config.to_dict(),
    'stage': stage,
    **_SAMPLER.values,
    'conditions': list(request.names),
    'seed': sampling_flags.SEED.value,
    'batch_size': _BATCH_SIZE.value,
  }
  return kind(_OUT.value, num_images=_NUM.value, made_by=made_by)


def _fill(
  export: ImageExport,
  run: Run,
  stage: str,
  request: sampling_flags.Request,
  notice: PreemptionNotice,
) -> None:
  size = min(_BATCH_SIZE.value, export.images_per_range, _NUM.value)
  method = generated.sampled(run, stage, size, _SAMPLER.values)
  wanted = request.wanted(np.arange(_NUM.value) % len(request))
  images = RunImages(run, stage, method, wanted, sampling_flags.SEED.value)
  missing = list(export.missing())
  progress = Progress('export', 0, len(missing), unit='parts')
  for done, (start, stop) in enumerate(missing, 1):
    notice.check()
    export.write(start, images.floats(start, stop))
    progress.update(done, {})


if __name__ == '__main__':
  cli.run(main)
