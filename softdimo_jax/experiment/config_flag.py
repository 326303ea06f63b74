"""The flag --config, shared by the commands that read a configuration."""

import pathlib

import ml_collections
from absl import flags
from ml_collections import config_flags

from softdimo_jax.errors import UserError
from softdimo_jax.experiment import config_paths
from softdimo_jax.runtime import paths

flags.disclaim_key_flags()  # --help lists the flag under the command.

_FOLDER = 'configs'
_SECTIONS = ('stages', 'seed', 'data', 'model', 'sampling', 'loop')
_PACKAGE = pathlib.Path(__file__).parents[1]


def define(example: str) -> flags.FlagHolder[ml_collections.ConfigDict]:
  """Defines --config, with `example` in its help.

  If configs/NAME.py does not exist in the working directory, the configuration
  of that name that ships with the package is read.
  """
  holder = config_flags.DEFINE_config_file(
    'config', None, f'Configuration file, e.g. {example}.'
  )
  flag = flags.FLAGS[holder.name]
  flag.parser = _Parser(flag.parser)
  return holder


def read(
  flag: flags.FlagHolder[ml_collections.ConfigDict],
) -> ml_collections.ConfigDict:
  """The configuration that the flag names, with absolute paths.

  absl reports an unreadable file only when the flag's value is first used.

  Raises:
    UserError: if it is not the configuration of a run.
  """
  try:
    config = flag.value
    missing = [name for name in _SECTIONS if name not in config]
    stages = config.get('stages')
  except (OSError, AttributeError, TypeError) as error:
    reason = str(error).strip().splitlines()[-1].strip()
    raise UserError(
      f'--config is not the configuration of a run: {reason}'
    ) from None
  if missing:
    raise UserError(
      f'--config is not the configuration of a run: it has no {missing[0]!r}'
    )
  if not isinstance(stages, tuple | list):
    raise UserError(f"config.stages={stages!r} must be a tuple: ('teacher',)")
  # A run on prompts may only sample from pretrained models.
  if not stages and 'prompts' not in config.data:
    raise UserError('config.stages is empty; name at least one stage')
  config_paths.make_absolute(config, names=True)
  return config


def shipped() -> pathlib.Path:
  """Folder of the shipped configurations: inside a wheel, or in a clone."""
  inside = _PACKAGE / _FOLDER
  return inside if inside.is_dir() else _PACKAGE.parent / _FOLDER


def find(path: pathlib.Path) -> pathlib.Path:
  """The file itself, or for configs/NAME.py the shipped one of that name.

  Raises:
    ValueError: if neither exists; lists the shipped ones.
  """
  if path.exists():
    return path
  ours = shipped() / path.name
  if path.parent == pathlib.Path(_FOLDER) and ours.exists():
    return ours
  names = sorted(file.name for file in shipped().glob('*.py'))
  choices = ', '.join(f'{_FOLDER}/{name}' for name in names)
  raise ValueError(
    f'there is no such file; shipped with the package: {choices}'
  )


class _Parser(flags.ArgumentParser):
  """Parser of a configuration file that also finds shipped ones."""

  def __init__(self, parser: flags.ArgumentParser):
    self._parser = parser

  def parse(self, path: str) -> ml_collections.ConfigDict | None:
    file, colon, variants = paths.local(path).partition(':')
    return self._parser.parse(f'{find(pathlib.Path(file))}{colon}{variants}')

  def flag_type(self) -> str:
    return self._parser.flag_type()
