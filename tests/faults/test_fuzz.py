"""Damaged inputs: the right result, or one sentence; never another number.

The seed is random and in the name of every test; the environment variable
FUZZ_SEED repeats one, and FUZZ_TIMES multiplies the cases.
"""

import os
import random
import shutil
import zlib

import pytest

from softdimo_jax.errors import UserError
from tests.faults import commands, flag_values, readers, runs

SEED = int(os.environ.get('FUZZ_SEED', random.SystemRandom().randrange(1000)))
TIMES = int(os.environ.get('FUZZ_TIMES', '1'))
TARGETS = readers.TARGETS | commands.TARGETS | runs.TARGETS


def changes(target: readers.Target):
  """(pattern, name of the change, whether it is harmless) of all changes."""
  for kind, harmless in ((target.harmless, True), (target.harmful, False)):
    for pattern, named in kind.items():
      for name in named:
        yield pattern, name, harmless


CASES = [
  pytest.param(name, *case, number, id=f'{SEED}-{name}-{case[1]}-{number}')
  for name, target in TARGETS.items()
  for case in changes(target)
  for number in range(target.times * TIMES)
]


RNG = random.Random(SEED)
FLAGS = RNG.sample([*flag_values.bad_flags()], 60 * TIMES)
FIELDS = flag_values.bad_fields(RNG, 40 * TIMES)


@pytest.fixture(scope='session')
def whole(tmp_path_factory):
  """Folder and answer of a target that nobody changed."""
  made = {}

  def make(name: str):
    if name not in made:
      root = tmp_path_factory.mktemp('whole') / 'inputs'
      root.mkdir()
      TARGETS[name].make(root)
      copy = root.with_name('copy')
      shutil.copytree(root, copy)
      made[name] = root, TARGETS[name].answer(copy)
    return made[name]

  return make


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'pattern', 'change', 'harmless', 'number'), CASES
)
def test_input(name, pattern, change, harmless, number, whole, tmp_path):
  root, expected = whole(name)
  copy = tmp_path / 'inputs'
  shutil.copytree(root, copy)
  target = TARGETS[name]
  rng = random.Random(zlib.crc32(f'{SEED} {name} {change} {number}'.encode()))
  files = sorted(x for x in copy.glob(pattern) if x.is_file())
  files = [x for x in files if x.stat().st_size]
  kind = target.harmless if harmless else target.harmful
  kind[pattern][change](rng.choice(files), rng)
  try:
    found = target.answer(copy)
  except UserError as refusal:
    assert not harmless, str(refusal)
    assert str(refusal).strip(), 'an error without a sentence'
    return
  assert found == expected, 'another result'


@pytest.mark.slow
@pytest.mark.parametrize(('command', 'argument'), FLAGS)
def test_flag(command, argument, tmp_path):
  flag_values.refuse_flag(command, argument, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'field', 'value'), FIELDS)
def test_field(name, field, value, tmp_path):
  flag_values.refuse_field(name, field, value, tmp_path)
