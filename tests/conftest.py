"""Settings of every test: CPU, and no silent rank promotion in the maths."""

import os

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
