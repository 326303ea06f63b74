"""Values that no flag and no field of a configuration takes."""

import pathlib
import random
from collections.abc import Iterator
from unittest import mock

from absl import flags

from configs import (
  cifar10,
  digits,
  maskbit,
  maskgen,
  maskgit,
  meissonic,
  shapes,
)
from softdimo_jax.experiment import ranges, stages
from tests import commands
from tests.test_commands import MISTAKES

_NUMBERS = ('nan', 'inf', '-inf', '1e999', 'many', '', '0x1g', '1_0', '1;2')
# By command, flags that it cannot do without.
_REQUIRED = {
  'convert': ('--family=clip',),
  'encode_prompts': (
    '--config=configs/maskgen.py',
    '--prompts={}/x',
    '--out={}/x',
  ),
  'export': ('--out={}/x',),
  'main': ('--config=configs/digits.py:tiny', '--workdir={}/x'),
  'plan': ('--config=configs/digits.py:tiny', '--topology=h100:8'),
  'tokenize_dataset': ('--data={}/x', '--out={}/x', '--workdir={}/x'),
}
_CONFIGS = {
  'cifar10': cifar10,
  'digits': digits,
  'maskbit': maskbit,
  'maskgen': maskgen,
  'maskgit': maskgit,
  'meissonic': meissonic,
  'shapes': shapes,
}


def bad_flags() -> Iterator[tuple[str, str]]:
  """(command, argument) of values that no flag takes."""
  for command in MISTAKES:
    yield command, '--no_such_flag=1'
    for name, flag in commands.flags_of(command).items():
      for value in _bad_values(flag):
        yield command, f'--{name}={value}'


def _bad_values(flag: flags.Flag) -> tuple[str, ...]:
  kind = flag.flag_type()
  if kind == 'bool':
    return ('maybe', '2')
  if 'enum' in kind:
    return ('none_of_them', 'nan')
  if 'int' in kind.split() or 'float' in kind.split():
    return _NUMBERS
  return ()


def refuse_flag(command: str, argument: str, folder: pathlib.Path) -> None:
  """Asserts one sentence that names the flag or its value."""
  name, _, value = argument.partition('=')
  required = [x.format(folder) for x in _REQUIRED.get(command, ())]
  print(command, argument)
  result = commands.call(command, *required, argument)
  commands.fails(result)
  assert name.strip('-') in result.err or (value and value in result.err)
  assert 'defect' not in result.err, result.err


def fields() -> list[tuple[str, str]]:
  """(configuration, field) of all numbers."""
  return [
    (name, '.'.join(number.path))
    for name, module in _CONFIGS.items()
    for number in ranges.numbers(module.get_config())
    if number.value is not None
  ]


def refuse_field(
  name: str, field: str, rng: random.Random, folder: pathlib.Path
) -> None:
  """Asserts one sentence that names the field; nothing is trained."""
  value = rng.choice(('nan', 'inf', '-inf', '1e39', 'many'))
  print(name, field, value)
  with mock.patch.object(stages, 'train', side_effect=AssertionError('taken')):
    result = commands.call(
      *('main', f'--config=configs/{name}.py', f'--workdir={folder / "run"}'),
      f'--config.{field}={value}',
    )
  commands.fails(result)
  assert field.rpartition('.')[2] in result.err or value in result.err
  assert 'defect' not in result.err, result.err
