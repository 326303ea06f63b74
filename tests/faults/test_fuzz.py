"""Damaged inputs: the right result, or one sentence; never another number.

A test that fails prints the seed of its changes: FUZZ_SEED=N repeats them, and
FUZZ_TIMES=N makes as many times as many.
"""

import os
import random
import shutil
import zlib

import pytest

from softdimo_jax.errors import UserError
from tests.faults import commands, flag_values, pictures, readers, runs

pytestmark = pytest.mark.slow
SEED = int(os.environ.get('FUZZ_SEED', random.SystemRandom().randrange(1000)))
TIMES = int(os.environ.get('FUZZ_TIMES', '1'))
TARGETS = readers.TARGETS | pictures.TARGETS | commands.TARGETS | runs.TARGETS


def changes(target: readers.Target):
  """(pattern, name of the change, whether it is harmless) of all changes."""
  for kind, harmless in ((target.harmless, True), (target.harmful, False)):
    for pattern, named in kind.items():
      for name in named:
        yield pattern, name, harmless


# Processes of one session draw other seeds, so that names contain none.
CASES = [
  (name, *case, number)
  for name, target in TARGETS.items()
  for case in changes(target)
  for number in range(target.times * TIMES)
]


@pytest.fixture
def rng(request):
  """Random numbers of one test."""
  print(f'FUZZ_SEED={SEED}')
  return random.Random(zlib.crc32(f'{SEED} {request.node.name}'.encode()))


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


@pytest.fixture(scope='session')
def bad_flags():
  return [*flag_values.bad_flags()]


@pytest.fixture(scope='session')
def fields():
  return flag_values.fields()


@pytest.mark.parametrize(
  ('name', 'pattern', 'change', 'harmless', 'number'), CASES
)
def test_input(name, pattern, change, harmless, number, whole, rng, tmp_path):
  root, expected = whole(name)
  copy = tmp_path / 'inputs'
  shutil.copytree(root, copy)
  target = TARGETS[name]
  files = sorted(x for x in copy.glob(pattern) if x.is_file())
  file = rng.choice([x for x in files if x.stat().st_size])
  kind = target.harmless if harmless else target.harmful
  kind[pattern][change](file, rng)
  print(f'{change} in {file}')
  try:
    found = target.answer(copy)
  except UserError as refusal:
    assert not harmless, str(refusal)
    assert str(refusal).strip(), 'an error without a sentence'
    return
  assert found == expected, 'another result'


@pytest.mark.parametrize('number', range(60 * TIMES))
def test_flag(number, bad_flags, rng, tmp_path):
  flag_values.refuse_flag(*rng.choice(bad_flags), tmp_path)


@pytest.mark.parametrize('number', range(40 * TIMES))
def test_field(number, fields, rng, tmp_path):
  flag_values.refuse_field(*rng.choice(fields), rng, tmp_path)
