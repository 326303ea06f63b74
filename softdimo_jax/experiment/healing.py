"""Damaged files of a stage: they are set aside, and written anew.

Only files that differ from their checksums count as damaged. Nothing is
deleted: damaged folders get the suffix `.damaged`.
"""

import pathlib
import sys

from softdimo_jax.errors import UserError
from softdimo_jax.experiment.run import CHECKPOINTS, PARAMS, Run
from softdimo_jax.runtime import checksums, storage
from softdimo_jax.runtime.checkpoint import newest_checkpoint
from softdimo_jax.training import points


def heal(run: Run, stage: str) -> None:
  """Prepares a stage so that training it writes what is damaged.

  A finished stage whose parameters are damaged goes on from its newest whole
  checkpoint. An unfinished one whose best state is damaged begins anew, since
  its checkpoints do not contain that state.

  Args:
    run: workdir and configuration.
    stage: trained or to be trained.

  Raises:
    UserError: if the parameters of a finished stage are damaged, and it has no
      whole checkpoint.
  """
  folder = run.folder(stage)
  params, checkpoints = folder / PARAMS, folder / CHECKPOINTS
  reason = checksums.damage(params)
  if reason:
    checkpoint = newest_checkpoint(checkpoints)
    if checkpoint is None:
      raise UserError(
        f'parameters {params} are damaged ({reason}), and no checkpoint of '
        f'stage {stage} is whole; restore them from a copy, or delete that '
        'folder and run again to train the stage anew'
      )
    _set_aside(
      params, reason, f'restored from the checkpoint of step {checkpoint.name}'
    )
  if run.done(stage) or not run.config.loop.get('keep_best'):
    return
  reason = points.damage(folder)
  if reason:
    if checkpoints.exists():  # first: a kill must not leave them without best
      storage.set_aside(checkpoints)
    best = folder / points.FOLDER
    _set_aside(best, reason, f'found again: stage {stage} begins anew')


def _set_aside(path: pathlib.Path, reason: str, then: str) -> None:
  aside = storage.set_aside(path)
  print(
    f'{path} is damaged ({reason}); it is now {aside.name}, and is {then}',
    file=sys.stderr,
  )
