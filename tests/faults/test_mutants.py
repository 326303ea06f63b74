"""Changes of code: which there are, and that the tests see them."""

import subprocess
import sys

import pytest

from tests.commands import ROOT
from tests.faults import mutants

SOURCE = '''
def f(x: int | None = 1, y=2.0) -> int | None:
  """2 < 3"""
  if not x or y in (x, True):
    raise ValueError(f'{x + 1} < 2')
  return g(x, y) < min(x, -y)
'''


def test_each_change_is_one_of_what_computes(tmp_path):
  path = tmp_path / 'a.py'
  path.write_text(SOURCE)
  found = [mutant.change()[2:] for mutant in mutants.of_file(path)]
  assert sorted(found) == sorted(
    [
      ('1', '2'),
      ('2.0', '4.0'),
      ('True', 'False'),
      ('not x', 'not not x'),
      ('not x or y in (x, True)', 'not x and y in (x, True)'),
      ('y in (x, True)', 'y not in (x, True)'),
      ('g(x, y) < min(x, -y)', 'g(x, y) <= min(x, -y)'),
      ('g(x, y) < min(x, -y)', 'g(x, y) > min(x, -y)'),
      ('g(x, y)', 'g(y, x)'),
      ('min(x, -y)', 'max(x, -y)'),
      ('-y', '--y'),
    ]
  )


@pytest.mark.slow
def test_the_tests_of_a_changed_module_run(tmp_path):
  out = tmp_path / 'verdicts.jsonl'
  command = [sys.executable, '-m', 'tests.faults.mutations']
  for num in (1, 2):  # The second call goes on.
    done = subprocess.run(
      [*command, f'--num={num}', '--seed=0', f'--out={out}'],
      cwd=ROOT,
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(out.read_text().splitlines()) == num
    assert f'| all | {num} |' in done.stdout
