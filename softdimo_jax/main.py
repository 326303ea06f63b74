"""Runs a configuration from its first stage to its report.

  python -m softdimo_jax.main --config=FILE --workdir=DIR

Repeating the command continues an interrupted run and skips finished stages.
With another configuration, it keeps the stages that do not depend on the change
and trains the others; the former ones are moved to DIR/earlier.
Exit codes: see `softdimo_jax.runtime.cli`.
"""

import contextlib
import json
import pathlib

import jax
from absl import flags, logging

from softdimo_jax.experiment import (
  branching,
  config_flag,
  reports,
  stages,
  validation,
)
from softdimo_jax.experiment.reports import results
from softdimo_jax.experiment.run import Run
from softdimo_jax.runtime import cli, distributed, flag_types, lock
from softdimo_jax.runtime.preemption import PreemptionNotice

_CONFIG = config_flag.define('configs/digits.py:maskbit')
_WORKDIR = flag_types.output(
  'workdir',
  None,
  'Folder for checkpoints, results and the report.',
  required=True,
)
_REUSE = flag_types.path_list(
  'reuse',
  'Workdirs of other runs, separated by commas: their finished stages are '
  'copied where this run would train the same.',
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator',
  None,
  'HOST:PORT of process 0 of a run with several processes; detected, like '
  '--num_processes and --process_id, on TPU, SLURM, GKE and Open MPI.',
)
_NUM_PROCESSES = flag_types.count(
  'num_processes', None, 'Number of processes of the run.'
)
_PROCESS_ID = flag_types.count(
  'process_id', None, 'Index of this process, from 0.', 0
)
flags.mark_flag_as_required('config')


def main(argv: list[str]) -> None:
  """Trains unfinished stages, evaluates and reports."""
  cli.no_arguments(argv)
  notice = PreemptionNotice()
  notice.install()
  settings = config_flag.read(_CONFIG)
  distributed.initialize(
    _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
  )
  notice.share()
  workdir = pathlib.Path(_WORKDIR.value).absolute()
  run = Run(workdir, settings)
  reuse = tuple(pathlib.Path(x).absolute() for x in _REUSE.value)
  branch = branching.Branch(workdir, run.config, reuse)
  distributed.agree(f'{workdir} {reuse} {json.dumps(run.config.to_dict())}')
  distributed.together(lambda: _check(run, branch))
  with contextlib.ExitStack() as stack:
    # Nothing is written until every process has passed the checks.
    distributed.alone(lambda: stack.enter_context(lock.held(workdir)))
    distributed.alone(branching.Branch(workdir, run.config, reuse).arrange)
    cli.cache_compilations(workdir / 'compilation_cache')
    logging.info('%d %s devices', jax.device_count(), jax.default_backend())
    stages.train(run, run.mesh, notice)
    distributed.alone(lambda: _report(run, notice))


def _check(run: Run, branch: branching.Branch) -> None:
  """Checks the configuration, the workdir, weights and data."""
  validation.validate(run.config)
  run.check_inputs(branch.left)


def _report(run: Run, notice: PreemptionNotice) -> None:
  """Evaluates if the configuration says so and the run has all stages."""
  notice.unshare()
  lacking = reports.lacking(run) if 'evaluation' in run.config else []
  if lacking:
    print(f'done; there is no report without the stages {", ".join(lacking)}')
  elif 'evaluation' in run.config:
    print(results.summary(reports.evaluate(run, notice)))
    print(f'report: {run.workdir / "report.html"}')
  else:
    print(
      f'done; python -m softdimo_jax.sample --workdir={run.workdir} draws '
      'samples, softdimo_jax.export writes a set for evaluation'
    )


if __name__ == '__main__':
  cli.run(main)
