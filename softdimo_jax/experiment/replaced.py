"""Whether pretrained weights are still those that a stage was trained from.

The records of stages name folders. What is in them is noted beside a record
when the training begins, so that another network in the same place is noticed.
"""

import pathlib

import ml_collections

from softdimo_jax.convert import folder as converted
from softdimo_jax.convert.rule_weights import RULE
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import records
from softdimo_jax.runtime import json_records

_FILE = 'pretrained.json'


def note(
  folder: pathlib.Path, config: ml_collections.ConfigDict, stage: str
) -> None:
  """Stores what the pretrained networks are that a stage reads.

  Args:
    folder: of the stage.
    config: of the run.
    stage: its name.
  """
  found = {
    name: identity
    for name, place in _read(config, stage).items()
    if (identity := _identity(pathlib.Path(place))) is not None
  }
  if found and not (folder / _FILE).exists():
    json_records.write(folder / _FILE, found)


def identities(config: ml_collections.ConfigDict) -> dict[str, str | None]:
  """What the pretrained networks of a run are now, by the name of a stage."""
  if config.get('weights') == RULE:
    return {}
  return {
    name: _identity(pathlib.Path(place))
    for name, place in config.get('pretrained', {}).items()
    if place and name not in config.stages
  }


def check(
  folder: pathlib.Path, config: ml_collections.ConfigDict, stage: str
) -> None:
  """Checks the pretrained networks of a stage that was trained or begun.

  Nothing is known of stages of earlier versions, and of folders that are gone.

  Args:
    folder: of the stage.
    config: of the run.
    stage: its name.

  Raises:
    UserError: if another network took the place of one of them.
  """
  if not (folder / _FILE).exists():
    return
  if records.load(folder) != records.records(config)[stage]:
    return  # it is trained anew
  try:
    noted = json_records.read(folder / _FILE)
  except ValueError as error:
    raise UserError(
      f'{folder / _FILE} is damaged ({error}); restore it, or delete it if '
      'config.pretrained still names the same networks'
    ) from error
  for name, place in _read(config, stage).items():
    now = _identity(pathlib.Path(place))
    if name in noted and now not in (None, noted[name]):
      raise UserError(
        f'config.pretrained.{name}={place} contains another network than the '
        f'one that stage {stage} was trained from; restore it, or put the new '
        'one in another folder'
      )


def _read(config: ml_collections.ConfigDict, stage: str) -> dict[str, str]:
  """Folders of the pretrained networks that a stage reads, by their name."""
  given = config.get('pretrained', {})
  if config.get('weights') == RULE:
    return {}
  return {
    name: given[name]
    for name in records.reads(config, stage).stages
    if name not in config.stages and given.get(name)
  }


def _identity(place: pathlib.Path) -> str | None:
  if converted.is_converted(place):
    return converted.identity(place)
  record = records.load(place)
  return None if record is None else record.digest
