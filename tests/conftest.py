"""Settings of every test: CPU, and programs that compile fast."""

import os

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Tests compile much and compute little; child processes inherit this.
os.environ.setdefault(
  'XLA_FLAGS',
  '--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false',
)
