"""Changes single operators of the code; the tests must notice each of them.

  python -m tests.faults.mutations --num=200 --seed=0 --out=FILE

Draws changes (`mutants`) of the method, the evaluation and the code that reads
data, one at a time, and runs the tests concerned in a forked process, without
those marked slow. First those files run that mirror or import the module, or
else import what imports it. With --levels=2, their tests of whole commands run
if these notice nothing; with 3, the tests at the next distance; and so on. A
test that does not end counts as noticing. Writes a JSON line per change to
FILE, and goes on from there if it exists. Prints a Markdown table by package
and the survivors.
"""

import argparse
import ast
import collections
import contextlib
import dataclasses
import functools
import importlib
import importlib.machinery
import importlib.util
import itertools
import json
import os
import pathlib
import random
import re
import resource
import signal
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests import conftest  # noqa: F401 - its environment, before JAX starts
from tests.faults import mutants
from tests.faults.mutants import Mutant

ROOT = pathlib.Path(__file__).parents[2]
PACKAGES = (
  *('method', 'evaluation', 'data/prompts', 'data/images', 'data/cache'),
  *('data/batches.py', 'data/captioned.py', 'data/splits.py'),
)
# Imported before the fork: every child would spend seconds on them.
_HEAVY = (
  *('numpy', 'jax', 'jax.numpy', 'flax.linen', 'optax'),
  *('orbax.checkpoint', 'ml_collections', 'absl.flags', 'hypothesis'),
  *('PIL.Image', 'sklearn.datasets', 'scipy.linalg', 'grain.python'),
)
_PASSED, _CRASHED, _NONE = 0, 3, 5  # exit codes of pytest
_TIMES = (signal.SIGXCPU, signal.SIGKILL)
_SLACK = 20.0  # seconds, beside three times the time of the unchanged code


class Tests(NamedTuple):
  """Files of tests, and which of their marks run."""

  files: tuple[pathlib.Path, ...]
  marks: str


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What became of a mutant.

  Attributes:
    place: path and line.
    number: among the mutants of the file.
    before: the expression.
    after: the changed one.
    caught: by which test, or how else; '' if it survived.
    seconds: of the processor, for all tests that ran.
  """

  place: str
  number: int
  before: str
  after: str
  caught: str
  seconds: float

  @property
  def package(self) -> str:
    """The package without its first part, e.g. method/sampling."""
    parent = pathlib.PurePath(self.place).parent
    return parent.relative_to('softdimo_jax').as_posix()


class _Loader(importlib.machinery.SourceFileLoader):
  """Loads the changed tree instead of the file's."""

  def __init__(self, name: str, path: str, tree: ast.Module):
    super().__init__(name, path)
    self._tree = tree

  def get_code(self, fullname: str):
    return compile(self._tree, self.path, 'exec')


class _Finder:
  """Finds one module, changed."""

  def __init__(self, mutant: Mutant):
    self._mutant, self._name = mutant, module_of(mutant.path)

  def find_spec(self, name, path=None, target=None):
    if name != self._name:
      return None
    path = self._mutant.path
    return importlib.util.spec_from_file_location(
      name,
      path,
      loader=_Loader(name, str(path), self._mutant.change()[0]),
      submodule_search_locations=(
        [str(path.parent)] if path.stem == '__init__' else None
      ),
    )


def module_of(path: pathlib.Path) -> str:
  """Name of the module in a file of the repository."""
  name = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
  return name.removesuffix('.__init__')


def drawn(num: int, seed: int) -> list[Mutant]:
  """So many mutants of the packages, each at most once."""
  every = [
    mutant
    for package in PACKAGES
    for path in _files(ROOT / 'softdimo_jax' / package)
    for mutant in mutants.of_file(path)
  ]
  print(f'{num} of {len(every)} changes, seed {seed}', flush=True)
  return random.Random(seed).sample(every, min(num, len(every)))


def _files(place: pathlib.Path) -> list[pathlib.Path]:
  return [place] if place.suffix else sorted(place.rglob('*.py'))


@functools.cache
def _imports() -> dict[pathlib.Path, set[str]]:
  """Modules of this repository that every file imports."""
  files = [*_files(ROOT / 'softdimo_jax'), *_files(ROOT / 'tests')]
  names = {module_of(path) for path in files}
  found = {}
  for path in files:
    found[path] = set()
    for node in ast.walk(ast.parse(path.read_text('utf-8'))):
      if isinstance(node, ast.ImportFrom) and node.module:
        found[path].add(node.module)
        found[path] |= {f'{node.module}.{x.name}' for x in node.names}
      elif isinstance(node, ast.Import):
        found[path] |= {x.name for x in node.names}
    found[path] &= names
  return found


def concerned(path: pathlib.Path) -> Iterator[list[pathlib.Path]]:
  """Test files by their distance from a module, the nearest first."""
  modules, seen = {module_of(path)}, set()
  mirror = ROOT / 'tests' / path.relative_to(ROOT / 'softdimo_jax')
  mirror = mirror.with_name(f'test_{path.name}')
  while True:
    importers = {x for x, names in _imports().items() if names & modules}
    tests = {x for x in importers if x.name.startswith('test_')}
    tests |= {mirror} if mirror.exists() else set()
    tests -= seen
    if tests:  # The mirroring ones notice most.
      yield sorted(tests, key=lambda x: (x != mirror, x))
    seen |= tests
    wider = modules | {module_of(x) for x in importers - tests}
    if wider == modules:
      return
    modules = wider


def forked(
  tests: Tests,
  log: pathlib.Path,
  limit: float = 3600,
  mutant: Mutant | None = None,
) -> tuple[int, float]:
  """(exit code of pytest, CPU seconds) of a child, which `limit` ends."""
  child = os.fork()
  if child == 0:
    _run_tests(tests, log, limit, mutant)
  start = time.monotonic()
  while True:
    done, status, used = os.wait4(child, os.WNOHANG)
    if done:
      seconds = used.ru_utime + used.ru_stime
      return os.waitstatus_to_exitcode(status), seconds
    if time.monotonic() - start > 50 * limit:  # It sleeps, or waits for a lock.
      os.killpg(child, signal.SIGKILL)
    time.sleep(0.02)


def _run_tests(
  tests: Tests,
  log: pathlib.Path,
  limit: float,
  mutant: Mutant | None,
) -> None:
  """Runs pytest and ends this process with its exit code."""
  os.setpgid(0, 0)
  # Of the processor's time, since other programs may run.
  resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit)))
  output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
  os.dup2(output, 1)
  os.dup2(output, 2)
  code = _CRASHED
  with contextlib.suppress(BaseException):
    if mutant is not None:
      sys.meta_path.insert(0, _Finder(mutant))
    code = pytest.main(
      [
        *('-x', '-n', '0', '-p', 'no:cacheprovider', '--hypothesis-seed=0'),
        *('-m', f'not slow and not tpu_compile and {tests.marks}'),
        *('--tb=line', *map(str, tests.files)),
      ]
    )
    sys.stdout.flush()
  os._exit(int(code))


class Judge:
  """Runs the tests of mutants.

  Attributes:
    levels: how many groups of tests may run for a mutant.
    log: receives the output of pytest.
  """

  def __init__(self, levels: int, log: pathlib.Path):
    self._levels, self._log = levels, log
    self._times: dict[Tests, float] = {}  # CPU seconds; 0 without tests

  def verdict(self, mutant: Mutant) -> Verdict:
    """What the tests say; those of the unchanged code have to pass.

    Raises:
      RuntimeError: if they do not.
    """
    caught, total = '', 0.0
    for tests in itertools.islice(self._levels_of(mutant), self._levels):
      limit = 3 * self._times[tests] + _SLACK
      code, seconds = forked(tests, self._log, limit, mutant)
      total += seconds
      if code != _PASSED:
        caught = self._reason(code)
        break
    _, line, before, after = mutant.change()
    place = f'{mutant.path.relative_to(ROOT)}:{line}'
    return Verdict(place, mutant.number, before, after, caught, round(total, 1))

  def _levels_of(self, mutant: Mutant) -> Iterator[Tests]:
    """Tests that exist and pass for the unchanged code."""
    for files in concerned(mutant.path):
      for marks in ('not command', 'command'):
        tests = Tests(tuple(files), marks)
        if tests not in self._times:
          code, seconds = forked(tests, self._log)
          if code not in (_PASSED, _NONE):
            raise RuntimeError(f'unchanged: {self._log.read_text()[-2000:]}')
          self._times[tests] = seconds if code == _PASSED else 0
        if self._times[tests]:
          yield tests

  def _reason(self, code: int) -> str:
    if code < 0:
      return 'a time-out' if -code in _TIMES else signal.Signals(-code).name
    text = self._log.read_text('utf-8', 'replace')
    found = re.search(r'^(?:FAILED|ERROR) (\S+)', text, re.MULTILINE)
    return found[1] if found else f'exit code {code}'


def table(verdicts: list[Verdict]) -> str:
  """Markdown: a row per package, then the survivors."""
  groups = collections.defaultdict(list)
  for verdict in verdicts:
    groups[verdict.package].append(verdict)
  lines = ['| package | changes | caught | share |', '|---|---:|---:|---:|']
  for name, group in [*sorted(groups.items()), ('all', verdicts)]:
    caught = sum(bool(x.caught) for x in group)
    share = f'{caught / len(group):.0%}'
    lines.append(f'| {name} | {len(group)} | {caught} | {share} |')
  lines += [
    f'- {x.place}: `{x.before}` -> `{x.after}`'.replace('\n', ' ')
    for x in verdicts
    if not x.caught
  ]
  return '\n'.join(lines)


def run(options: argparse.Namespace) -> list[Verdict]:
  """Verdicts of all mutants; each is written as soon as it is known."""
  verdicts = []
  if options.out.exists():
    lines = options.out.read_text('utf-8').splitlines()
    verdicts = [Verdict(**json.loads(line)) for line in lines]
  known = {(x.place.partition(':')[0], x.number) for x in verdicts}
  judge = Judge(options.levels, options.out.with_suffix('.log'))
  for mutant in drawn(options.num, options.seed):
    if (str(mutant.path.relative_to(ROOT)), mutant.number) in known:
      continue
    verdicts.append(judge.verdict(mutant))
    line = json.dumps(dataclasses.asdict(verdicts[-1]))
    with options.out.open('a') as file:
      file.write(f'{line}\n')
  return verdicts


def parse(argv: list[str] | None = None) -> argparse.Namespace:
  """Options of the command line."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--num', type=int, default=200)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--levels', type=int, default=1)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
  options = parse(argv)
  options.out = options.out.absolute()
  os.chdir(ROOT)
  for name in _HEAVY:
    importlib.import_module(name)
  print(table(run(options)))
  return 0


if __name__ == '__main__':
  sys.exit(main())
