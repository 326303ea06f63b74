"""Compares our networks and functions with fixtures of the official ones.

  python -m softdimo_jax.parity tests/golden [--only=maskgit_transformer]

Prints one line per array: fixture, array, max|a - b| / max|b|, tolerance, ok.
The exit status is 1 if an array differs or has no counterpart, or if a fixture
is of an unknown kind.
"""

import pathlib
import sys

from absl import flags

from softdimo_jax.errors import UserError
from softdimo_jax.parity import fixture, kinds
from softdimo_jax.runtime import cli

_ONLY = flags.DEFINE_list('only', None, 'Fixtures to compare. Default: all.')


def main(argv: list[str]) -> None:
  """Prints the comparison; exits with 1 if something differs."""
  if len(argv) < 2:
    raise UserError('give a folder: python -m softdimo_jax.parity FOLDER')
  cli.no_arguments(argv[1:])
  folder = pathlib.Path(argv[1]).expanduser()
  failed = [name for name in _chosen(folder) if not _check(folder, name)]
  if failed:
    print(f'failed: {", ".join(failed)}', file=sys.stderr)
    sys.exit(1)


def _chosen(folder: pathlib.Path) -> list[str]:
  names = fixture.names(folder)
  for name in _ONLY.value or ():
    if name not in names:
      raise UserError(
        f'--only={name} is not in {folder}, which contains {", ".join(names)}'
      )
  return _ONLY.value or names


def _check(folder: pathlib.Path, name: str) -> bool:
  """Compares one fixture and prints its lines."""
  try:
    loaded = fixture.load(folder, name)
    compute = kinds.find(loaded)
    if compute is None:
      print(f'{name} not covered: no function computes {loaded.official}')
      return False
    rows = fixture.compare(loaded, compute(loaded))
  except Exception as error:  # A damaged fixture must not hide the others.
    print(f'{name} cannot be computed: {type(error).__name__}: {error}')
    return False
  for row in rows:
    print(f'{name} {row}', flush=True)
  return all(row.ok for row in rows)


if __name__ == '__main__':
  cli.run(main)
