"""Types of trees of arrays that every room speaks of."""

from typing import Any

import jax

# Nested dict of parameters, of the host or of devices.
Params = Any
# Arrays, or trees of arrays, by name; their first axis is the batch.
Batch = dict[str, Any]
# Scalars of a step, by name.
Metrics = dict[str, jax.Array]
