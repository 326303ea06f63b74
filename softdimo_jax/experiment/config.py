"""Reads the configuration of a run, and stores it in the workdir."""

import copy
import functools
import json
import pathlib
from typing import Any

import ml_collections

from softdimo_jax.errors import UserError
from softdimo_jax.experiment import config_paths
from softdimo_jax.runtime import json_records, storage
from softdimo_jax.runtime.files import write_atomically

CONFIG_FILE = 'config.json'
# Folder, in the workdir, of stages and files of earlier configurations.
EARLIER = 'earlier'
_SECTIONS = ('model', 'data')  # of every run
_REPORTS = ('results.json', 'report.html')
# Section that distributes the run over devices without changing what it
# computes; it may differ when a run is resumed.
SPREAD = 'mesh'
# Fields that version 0.1 did not have, with its behaviour: of sections, and of
# the parts of a distillation.
_ADDED_SECTIONS = {
  'evaluation': {'every': 0, 'curve_images': 1000},
  'loop': {'keep_best': ''},
}
_ADDED = {
  'init': {
    'noise_unit': 'absolute',
    'max_mask_ratio': None,
    'noise_ramp': '',
    'noise_ramp_steps': 1000,
  },
  'auxiliary': {'updates': 1, 'burn_in': 0},
  'gan': {'updates': 1},
}


def claim_workdir(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> None:
  """Stores the configuration in the workdir.

  Another one that is stored there is kept in the folder of earlier files, with
  the results and the report made with it.

  Raises:
    UserError: if the workdir is not writable.
  """
  path = workdir / CONFIG_FILE
  with storage.written(workdir):
    if path.exists():
      if not changes(workdir, config):
        return
      _put_aside(workdir)
    write_atomically(path, json.dumps(config.to_dict(), indent=2) + '\n')


def changes(workdir: pathlib.Path, config: ml_collections.ConfigDict) -> str:
  """How the configuration differs from that of the workdir; '' if it does not.

  Both may distribute the run in different ways.
  """
  before, now = (
    {k: v for k, v in flat.items() if not k.startswith(f'{SPREAD}.')}
    for flat in (
      _flat(_settled(_read(workdir / CONFIG_FILE))),
      _flat(_settled(_completed(_plain(config.to_dict())))),
    )
  )
  return difference(before, now)


def difference(before: dict[str, Any], now: dict[str, Any]) -> str:
  """The first fields that differ and their values, in words; '' if none do."""
  keys = sorted(before.keys() | now.keys())
  changed = [k for k in keys if before.get(k) != now.get(k)]
  shown = ', '.join(
    f'{k} was {before.get(k)!r} and is {now.get(k)!r}' for k in changed[:3]
  )
  return f'{shown} and {len(changed) - 3} more' if changed[3:] else shown


def meaning(config: dict[str, Any]) -> dict[str, Any]:
  """Values of fields by path, as the stages depend on them.

  Empty fields have the values that they stand for. A field that an earlier
  version did not have is left out while it has the old behaviour, so that a
  new field does not change what older stages are.
  """
  config = _completed(_plain(config))

  def is_old(path: str) -> bool:
    before = copy.deepcopy(config)
    *parents, last = path.split('.')
    functools.reduce(dict.__getitem__, parents, before).pop(last)
    return _flat(_completed(before)) == _flat(config)

  flat = _flat(_settled(config))
  return {k: v for k, v in flat.items() if not is_old(k)}


def _put_aside(workdir: pathlib.Path) -> None:
  earlier = workdir / EARLIER
  earlier.mkdir(exist_ok=True)
  number = len(list(earlier.glob('config-*.json'))) + 1
  # The configuration last: it alone shows that there is something to move.
  for name in (*_REPORTS, CONFIG_FILE):
    file = workdir / name
    if file.exists():
      file.rename(earlier / f'{file.stem}-{number}{file.suffix}')


def load(workdir: pathlib.Path) -> ml_collections.ConfigDict:
  """The stored configuration of a run.

  Raises:
    UserError: if the workdir has none.
  """
  path = workdir / CONFIG_FILE
  if not path.exists():
    raise UserError(
      f'{workdir} is not the workdir of a run (no {CONFIG_FILE}); run '
      'python -m softdimo_jax.main with this --workdir first'
    )
  return ml_collections.ConfigDict(_tuples(_read(path)))


def _read(path: pathlib.Path) -> dict[str, Any]:
  try:
    stored = _completed(json_records.json_object(path))
    if missing := [x for x in _SECTIONS if not isinstance(stored.get(x), dict)]:
      raise ValueError(f'it has no section {missing[0]!r}')
    # Those of before were relative to where the command was started.
    config_paths.make_absolute(stored, names=False)
    return stored
  except (ValueError, LookupError, TypeError, AttributeError) as error:
    raise UserError(
      f'{path} is not the configuration of a run ({error}); restore it or '
      'choose another --workdir'
    ) from error


def _completed(config: dict[str, Any]) -> dict[str, Any]:
  """The configuration of an older version, with the fields added since."""
  for section in _of_kind(config, 'distill'):
    for part, fields in _ADDED.items():
      section[part] = fields | section[part]
  for section in _of_kind(config, 'teacher'):
    if 'masked_only' in section:
      section['unmasked_weight'] = float(not section.pop('masked_only'))
      section['exact_count'] = False
  plan = config.get('sampling', {}).get('plan', {})
  if plan.get('name') == 'meissonic':
    plan.setdefault('official_times', False)
  for name, fields in _ADDED_SECTIONS.items():
    if name in config:
      config[name] = fields | config[name]
  return config


def _settled(config: dict[str, Any]) -> dict[str, Any]:
  """The configuration with the values that its empty fields stand for."""
  config = copy.deepcopy(config)
  sections = _of_kind(config, 'distill')
  for section in sections:
    for part in ('gan', 'reward'):
      if section[part]['temperature'] is None:
        section[part]['temperature'] = section['temperature']
  temperatures = {section['temperature'] for section in sections}
  sampling = config.get('sampling', {})
  if sampling.get('temperature', 0) is None and len(temperatures) == 1:
    sampling['temperature'] = temperatures.pop()
  return config


def _of_kind(config: dict[str, Any], kind: str) -> list[dict[str, Any]]:
  """The sections of the stages of a kind."""
  sections = [x for x in config.values() if isinstance(x, dict)]
  return [x for x in sections if x.get('kind') == kind]


def _plain(config: dict[str, Any]) -> dict[str, Any]:
  """The configuration as it is read from its file."""
  return json.loads(json.dumps(config))


def _tuples(value: Any) -> Any:
  """Turns the lists of JSON into tuples, since module fields are hashed."""
  if isinstance(value, dict):
    return {k: _tuples(v) for k, v in value.items()}
  if isinstance(value, list):
    return tuple(_tuples(v) for v in value)
  return value


def _flat(tree: dict[str, Any], prefix: str = '') -> dict[str, Any]:
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat |= _flat(value, f'{prefix}{key}.')
    else:
      flat[prefix + key] = value
  return flat
