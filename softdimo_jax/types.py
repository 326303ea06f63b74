"""Types of array trees, for all packages."""

from typing import Any

import jax
import numpy as np

# An array on the host or on devices.
Array = np.ndarray | jax.Array
# Nested dict of parameters, on the host or on devices.
Params = Any
# Arrays or trees of arrays by name; the first axis is the batch.
Batch = dict[str, Any]
# Scalars of a step by name.
Metrics = dict[str, jax.Array]
