"""How arrays are compared with a fixture's."""

from collections.abc import Mapping

import numpy as np

TOLERANCE = 2e-5


def scaled(
  state: Mapping[str, np.ndarray], factors: Mapping[str, float]
) -> dict[str, np.ndarray]:
  """State dict of the `eps_*` arrays: the named entries times their factor."""
  return {
    name: array * np.float32(factors.get(name, 1))
    for name, array in state.items()
  }


def check(
  ours: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]
) -> None:
  """Compares every array of a fixture with ours of the same name.

  Names and shapes must be the same and integers equal; of floats,
  max|a - b| <= TOLERANCE max|b|.
  """
  assert set(ours) == set(expected)
  wrong = {}
  for name, theirs in expected.items():
    mine = np.asarray(ours[name])
    assert mine.shape == theirs.shape, name
    if theirs.dtype.kind == 'f':
      error, limit = np.abs(mine - theirs).max(), np.abs(theirs).max()
      if not error <= TOLERANCE * limit:  # NaN is wrong, too
        wrong[name] = error / limit
    else:
      np.testing.assert_array_equal(mine, theirs, err_msg=name)
  assert not wrong
