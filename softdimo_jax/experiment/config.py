"""Reads the configuration of a run, and stores it in the workdir."""

import copy
import json
import pathlib
from typing import Any

import ml_collections

from softdimo_jax.errors import UserError
from softdimo_jax.runtime.files import write_atomically

CONFIG_FILE = 'config.json'
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
  'init': {'noise_unit': 'absolute'},
  'auxiliary': {'updates': 1, 'burn_in': 0},
}


def check_loaded(config: ml_collections.ConfigDict) -> None:
  """Raises UserError if --config is not the configuration of a run.

  absl reports an unreadable file only when the flag's value is first used.
  """
  try:
    stages = config.stages
  except (OSError, AttributeError) as error:
    reason = str(error).strip().splitlines()[-1].strip()
    raise UserError(
      f'--config is not the configuration of a run: {reason}'
    ) from None
  # A run on prompts may only sample from pretrained models.
  if not stages and 'prompts' not in config.get('data', {}):
    raise UserError('config.stages is empty; name at least one stage')


def claim_workdir(
  workdir: pathlib.Path, config: ml_collections.ConfigDict
) -> None:
  """Stores the configuration in a new workdir, or compares it with the stored.

  Raises:
    UserError: if the workdir is not writable, or belongs to another
      configuration.
  """
  path = workdir / CONFIG_FILE
  text = json.dumps(config.to_dict(), indent=2) + '\n'
  try:
    if not path.exists():
      write_atomically(path, text)
      return
  except OSError as error:
    raise UserError(
      f'workdir {workdir} is not writable ({error.strerror}); choose another '
      '--workdir'
    ) from error
  before, now = (
    _flat(_settled(x)) for x in (_read(path), _completed(json.loads(text)))
  )
  keys = sorted(
    key
    for key in before.keys() | now.keys()
    if not key.startswith(f'{SPREAD}.')
  )
  changed = [k for k in keys if before.get(k) != now.get(k)]
  if changed:
    shown = ', '.join(
      f'{k} was {before.get(k)!r} and is {now.get(k)!r}' for k in changed[:3]
    )
    more = f' and {len(changed) - 3} more' if len(changed) > 3 else ''
    raise UserError(
      f'workdir {workdir} belongs to another configuration ({shown}{more}); '
      'choose another --workdir or restore these values'
    )


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
    return _completed(json.loads(path.read_text('utf-8')))
  except ValueError as error:
    raise UserError(
      f'{path} is not valid JSON ({error}); restore it or choose another '
      '--workdir'
    ) from error


def _completed(config: dict[str, Any]) -> dict[str, Any]:
  """The configuration of an older version, with the fields added since."""
  for section in _distillations(config):
    for part, fields in _ADDED.items():
      section[part] = fields | section[part]
  for name, fields in _ADDED_SECTIONS.items():
    if name in config:
      config[name] = fields | config[name]
  return config


def _settled(config: dict[str, Any]) -> dict[str, Any]:
  """The configuration with the values that its empty fields stand for."""
  config = copy.deepcopy(config)
  sections = _distillations(config)
  for section in sections:
    for part in ('gan', 'reward'):
      if section[part]['temperature'] is None:
        section[part]['temperature'] = section['temperature']
  temperatures = {section['temperature'] for section in sections}
  sampling = config.get('sampling', {})
  if sampling.get('temperature', 0) is None and len(temperatures) == 1:
    sampling['temperature'] = temperatures.pop()
  return config


def _distillations(config: dict[str, Any]) -> list[dict[str, Any]]:
  sections = [x for x in config.values() if isinstance(x, dict)]
  return [x for x in sections if x.get('kind') == 'distill']


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
