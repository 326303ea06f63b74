"""Runs a configuration from its first stage to its report.

  python -m softdimo_jax.main --config=FILE --workdir=DIR

Repeating the command continues an interrupted run and skips what is done.
Exit codes: 0 finished, 2 a mistake in the input, 75 stopped by a signal after
saving.
"""

import pathlib

import jax
from absl import flags, logging
from ml_collections import config_flags

from softdimo_jax import (
  class_results,
  cli,
  config,
  pipeline,
  prompt_results,
  results,
  stages,
)
from softdimo_jax.training import sharding
from softdimo_jax.training.preemption import PreemptionNotice

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'Configuration file, e.g. configs/digits.py:maskbit.'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder for checkpoints, results and the report.'
)
flags.mark_flags_as_required(['config', 'workdir'])


def main(argv: list[str]) -> None:
  """Trains what is missing, evaluates and reports."""
  cli.no_arguments(argv)
  notice = PreemptionNotice()
  notice.install()
  config.check_loaded(_CONFIG.value)
  config.validate(_CONFIG.value)
  workdir = pathlib.Path(_WORKDIR.value).absolute()
  run = pipeline.Run(workdir, _CONFIG.value)
  run.check_inputs()
  config.claim_workdir(workdir, _CONFIG.value)
  cli.cache_compilations(workdir / 'compilation_cache')
  logging.info('%d %s devices', jax.device_count(), jax.default_backend())
  stages.train(run, sharding.make_mesh(), notice)
  if 'evaluation' in run.config:
    reads_text = run.family.reads_text
    evaluator = prompt_results if reads_text else class_results
    rows = evaluator.evaluate(run, notice)
    print(results.summary(rows))
    print(f'report: {workdir / "report.html"}')
  else:
    print(
      f'done; python -m softdimo_jax.sample --workdir={workdir} draws samples, '
      'softdimo_jax.export writes a set for evaluation'
    )


if __name__ == '__main__':
  cli.run(main)
