"""Random features for the properties of metrics."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


def feature_sets(min_rows=5, max_rows=30, width=3):
  """Features on a grid of integers: sums are exact, ties are frequent."""
  rows = st.integers(min_rows, max_rows)
  values = st.integers(-8, 8).map(float)
  return rows.flatmap(
    lambda n: hnp.arrays(np.float64, (n, width), elements=values)
  )
