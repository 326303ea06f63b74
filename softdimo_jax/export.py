"""Many samples of a run for other people's metrics: .npz or a PNG folder.

  python -m softdimo_jax.export --workdir=DIR --num=50000 --out=samples.npz

An --out that ends with .npz becomes one file with `arr_0`, uint8 [N, H, W, 3],
as ADM's evaluator reads it; anything else a folder of PNG files. Repeating the
command continues an interrupted one. Exit codes: 0 finished, 2 a mistake in
the input, 75 stopped by a signal.
"""

import pathlib

import jax
import numpy as np
from absl import flags

from softdimo_jax import cli, config, pipeline, results
from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.export import ImageExport, NpzExport, PngExport
from softdimo_jax.training.metrics import Progress
from softdimo_jax.training.preemption import PreemptionNotice

_WORKDIR = flags.DEFINE_string('workdir', None, 'Workdir of a run.')
_MODEL = flags.DEFINE_string(
  'model', None, 'Stage to sample from; the last one of the run by default.'
)
_NUM = flags.DEFINE_integer(
  'num', 50_000, 'Images; as many of each class, give or take one.', 1
)
_OUT = flags.DEFINE_string('out', None, 'File ending with .npz, or a folder.')
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
_BATCH_SIZE = flags.DEFINE_integer(
  'batch_size', 64, 'Images of a call, over all devices.', 1
)
flags.mark_flags_as_required(['workdir', 'out'])


def main(argv: list[str]) -> None:
  """Writes the images and says where they are."""
  cli.no_arguments(argv)
  notice = PreemptionNotice()
  notice.install()
  workdir = pathlib.Path(_WORKDIR.value).absolute()
  run = pipeline.Run(workdir, config.load(workdir))
  stage = results.generator_stage(run, _MODEL.value)
  export = _open(run, stage)
  try:
    _fill(export, run, stage, notice)
  except ValueError as error:
    raise UserError(str(error)) from error
  export.finish()
  print(f'{_NUM.value} images of {stage} in {_OUT.value}')


def _open(run: pipeline.Run, stage: str) -> ImageExport:
  kind = NpzExport if _OUT.value.endswith('.npz') else PngExport
  made_by = {
    'config': run.config.to_dict(),
    'stage': stage,
    'steps': _STEPS.value,
    'guidance_scale': _GUIDANCE.value,
    'temperature': _TEMPERATURE.value,
    'seed': _SEED.value,
    'batch_size': _BATCH_SIZE.value,
  }
  return kind(_OUT.value, num_images=_NUM.value, made_by=made_by)


def _fill(
  export: ImageExport,
  run: pipeline.Run,
  stage: str,
  notice: PreemptionNotice,
) -> None:
  sampler = results.sampler(
    run,
    stage,
    min(_BATCH_SIZE.value, export.images_per_range, _NUM.value),
    steps=_STEPS.value,
    guidance_scale=_GUIDANCE.value,
    temperature=_TEMPERATURE.value,
  )
  params = sampler.place(run.params(stage))
  tokenizer_params = sampler.place(run.params('tokenizer'))
  labels = np.arange(export.num_images, dtype=np.int32) % run.family.null_label
  missing = list(export.missing())
  key = jax.random.key(_SEED.value)
  progress = Progress('export', 0, len(missing), unit='parts')
  for done, (start, stop) in enumerate(missing, 1):
    notice.check()
    _, images = sampler(
      params,
      tokenizer_params,
      jax.random.fold_in(key, start),
      labels[start:stop],
    )
    export.write(start, images)
    progress.update(done, {})


if __name__ == '__main__':
  cli.run(main)
