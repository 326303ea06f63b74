"""The fixtures of this folder, each computed once in a test session."""

import functools
import pathlib

from softdimo_jax.parity import fixture
from softdimo_jax.parity.kinds import find

GOLDEN = pathlib.Path(__file__).parent


@functools.cache
def ours(name):
  """Our arrays of a fixture."""
  loaded = fixture.load(GOLDEN, name)
  return find(loaded)(loaded)


def check(name):
  """Asserts that every array of a fixture agrees with ours."""
  rows = fixture.compare(fixture.load(GOLDEN, name), ours(name))
  assert rows
  assert [str(row) for row in rows if not row.ok] == []
