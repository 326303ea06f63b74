"""Settings of every test: CPU, and programs that compile fast, and once."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Tests compile much and compute little; child processes inherit this.
os.environ.setdefault(
  'XLA_FLAGS',
  '--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false',
)
if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
  # Set by the process that starts the workers, and inherited by everybody:
  # the commands compile the same programs in dozens of processes.
  os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp()
  os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.1'
  atexit.register(
    shutil.rmtree, os.environ['JAX_COMPILATION_CACHE_DIR'], ignore_errors=True
  )
