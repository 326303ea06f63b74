"""Which stages of a workdir, or of other runs, belong to a configuration.

A stage is taken from where a stage with the same digest is, and trained
otherwise. Nothing is overwritten: what does not belong to the configuration is
moved to the workdir's folder `earlier`.
"""

import dataclasses
import functools
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator

import ml_collections

from softdimo_jax.errors import UserError
from softdimo_jax.experiment import config as config_lib
from softdimo_jax.experiment import records
from softdimo_jax.experiment.config import CONFIG_FILE, EARLIER
from softdimo_jax.experiment.records import Record
from softdimo_jax.experiment.run import CHECKPOINTS, PARAMS
from softdimo_jax.runtime import checksums, storage
from softdimo_jax.runtime.checkpoint import newest_checkpoint

_KEPT, _NEW = 'as it is', 'new'


@dataclasses.dataclass(frozen=True)
class _Found:
  """A stage that was trained, or whose training has begun."""

  folder: pathlib.Path
  record: Record

  @property
  def done(self) -> bool:
    return (self.folder / PARAMS).exists()

  @functools.cached_property
  def whole(self) -> bool:
    """Whether it is finished and its parameters are not damaged."""
    return self.done and not checksums.damage(self.folder / PARAMS)

  @functools.cached_property
  def checkpoint(self) -> pathlib.Path | None:
    """The newest whole one."""
    return newest_checkpoint(self.folder / CHECKPOINTS)

  @property
  def step(self) -> int:
    """Of the newest checkpoint; 0 without one."""
    return int(self.checkpoint.name) if self.checkpoint else 0


@dataclasses.dataclass(frozen=True)
class Branch:
  """The stages of a configuration, and where they come from.

  Attributes:
    workdir: of the configuration; absolute.
    config: validated configuration.
    reuse: workdirs of other runs; they are only read.
  """

  workdir: pathlib.Path
  config: ml_collections.ConfigDict
  reuse: tuple[pathlib.Path, ...] = ()

  @functools.cached_property
  def left(self) -> tuple[str, ...]:
    """Stages to train, in order.

    Raises:
      UserError: if nothing in the workdir belongs to the configuration, not
        even its name, or if a folder of `reuse` is not a workdir.
    """
    self._refuse_another_run()
    exact = {name: self._exact(name) for name in self._records}
    return tuple(
      name for name, found in exact.items() if not (found and found.done)
    )

  def arrange(self) -> None:
    """Moves and copies stages, and stores the configuration in the workdir.

    Prints a line per stage if the configuration is not that of the workdir, or
    a stage does not stay as it is. If this is interrupted, it can be repeated.

    Raises:
      UserError: if the workdir is not writable.
    """
    with storage.written(self.workdir):
      self._label()
      lines = {name: self._settle(name) for name in self._records}
    if self._changes or self.reuse or set(lines.values()) - {_KEPT, _NEW}:
      for name, line in lines.items():
        print(f'stage {name}: {line}', file=sys.stderr)
    config_lib.claim_workdir(self.workdir, self.config)

  @functools.cached_property
  def _records(self) -> dict[str, Record]:
    return records.records(self.config)

  @functools.cached_property
  def _changes(self) -> str:
    """How the configuration differs from the stored one, if there is one."""
    if not (self.workdir / CONFIG_FILE).exists():
      return ''
    return config_lib.changes(self.workdir, self.config)

  @functools.cached_property
  def _here(self) -> list[_Found]:
    return list(_found(self.workdir))

  @functools.cached_property
  def _elsewhere(self) -> list[_Found]:
    for workdir in self.reuse:
      config_lib.load(workdir)  # raises if it is not a workdir
    return [found for workdir in self.reuse for found in _found(workdir)]

  def _refuse_another_run(self) -> None:
    if not self._changes:
      return
    stored = config_lib.load(self.workdir)
    before, now = stored.get('name'), self.config.get('name')
    digests = {record.digest for record in self._records.values()}
    kept = any(found.record.digest in digests for found in self._here)
    if before != now and not kept:
      raise UserError(
        f'workdir {self.workdir} belongs to another configuration (name was '
        f'{before!r} and is {now!r}, and no stage is the same); choose another '
        '--workdir'
      )

  def _exact(self, name: str) -> _Found | None:
    """The same stage: finished anywhere, or else begun in this workdir."""
    digest = self._records[name].digest
    same = lambda found: found.record.digest == digest
    here, elsewhere = filter(same, self._here), filter(same, self._elsewhere)
    candidates = [*here, *(found for found in elsewhere if found.whole)]
    return max(candidates, key=lambda found: found.done, default=None)

  def _shorter(self, name: str) -> _Found | None:
    """The longest stage that this one only lengthens, with a checkpoint."""
    wanted = self._records[name]
    candidates = [
      found
      for found in (*self._here, *self._elsewhere)
      if wanted.lengthens(found.record) and found.step
    ]
    return max(candidates, key=lambda found: found.step, default=None)

  def _label(self) -> None:
    """Stores the records of stages that an earlier version trained.

    Until now, the stored configuration told them.
    """
    if self._changes:
      for found in self._here:
        records.write(found.folder, found.record)

  def _settle(self, name: str) -> str:
    """Puts the stage's folder in its place; returns what changed, in words."""
    wanted, target = self._records[name], self.workdir / name
    former = next((x for x in self._here if x.folder == target), None)
    source = self._exact(name)
    if source is not None and source.folder == target:
      return _KEPT
    shorter = None if source else self._shorter(name)
    aside = ''
    if former is not None:
      moved = _move_aside(former, self.workdir / EARLIER)
      aside = f'; the former one is now {moved.relative_to(self.workdir)}'
      if shorter is former:
        shorter = _Found(moved, former.record)
    if source is not None and source in self._here:
      os.replace(source.folder, target)
      return f'taken back from {source.folder.name}{aside}'
    if source is not None:
      _copy(source, source.record, target)
      return f'copied from {source.folder}{aside}'
    if shorter is not None:
      _copy(shorter, wanted, target)
      return f'goes on from step {shorter.step}{aside}'
    named = (x for x in self._elsewhere if x.record.name == name)
    known = former or next(named, None)
    if known is not None and known.record == wanted:
      state = 'damaged' if known.done else 'not finished'
      return f'new: {known.folder} is {state}{aside}'
    if known is not None:
      return f'trained anew: {wanted.difference(known.record)}{aside}'
    return _NEW


def _found(workdir: pathlib.Path) -> Iterator[_Found]:
  """The stages in a workdir, those of its present configuration first."""
  stored: dict[str, Record] = {}
  if (workdir / CONFIG_FILE).exists():
    # Those of a version without records were trained by the first versions.
    stored = records.records(config_lib.load(workdir), version=1)
  for parent in (workdir, workdir / EARLIER):
    # Names with a dot are those of unfinished copies.
    for folder in sorted(parent.glob('[!.]*')):
      record = records.load(folder)
      if record is None and parent == workdir and folder.is_dir():
        record = stored.get(folder.name)
      if record is not None:
        yield _Found(folder, record)


def _move_aside(found: _Found, earlier: pathlib.Path) -> pathlib.Path:
  earlier.mkdir(exist_ok=True)
  records.write(found.folder, found.record)  # or nothing would tell what it is
  name = f'{found.record.name}-{found.record.digest[:8]}'
  target, number = earlier / name, 1
  while target.exists():
    number += 1
    target = earlier / f'{name}-{number}'
  return found.folder.rename(target)


def _copy(source: _Found, record: Record, target: pathlib.Path) -> None:
  """Copies a finished stage, or its newest checkpoint for a longer one."""
  partial = target.with_name(f'.{target.name}.partial')
  shutil.rmtree(partial, ignore_errors=True)
  left_out = shutil.ignore_patterns(CHECKPOINTS)
  if record != source.record:
    left_out = shutil.ignore_patterns(CHECKPOINTS, PARAMS)
  shutil.copytree(source.folder, partial, ignore=left_out)
  if record != source.record and source.checkpoint is not None:
    place = partial / CHECKPOINTS / source.checkpoint.name
    shutil.copytree(source.checkpoint, place)
  records.write(partial, record)
  partial.rename(target)
