"""The sets of XLA flags."""

import os
import subprocess
import sys

from tests.launch.scripts import LAUNCH, launch


def environment(name, **env):
  code = f'eval "$({LAUNCH}/xla_flags.sh {name})"; env'
  result = subprocess.run(
    ['bash', '-c', code],
    env={'PATH': os.environ['PATH'], **env},
    capture_output=True,
    text=True,
    check=True,
  )
  return dict(line.split('=', 1) for line in result.stdout.splitlines())


def sets():
  return launch('xla_flags.sh', '--list').stdout.split()


def test_flags_are_added_to_those_that_are_there():
  assert environment('none', XLA_FLAGS='--a').get('XLA_FLAGS') == '--a'
  found = environment('gpu', XLA_FLAGS='--a')['XLA_FLAGS']
  assert found.startswith('--a --xla_gpu_')
  assert 'LIBTPU_INIT_ARGS' not in environment('gpu_hopper')
  assert environment('tpu_data')['LIBTPU_INIT_ARGS'].startswith('--xla_tpu_')


def test_the_compiler_knows_all_gpu_flags():
  """A flag that XLA does not know ends the process."""
  names = [name for name in sets() if name.startswith('gpu')]
  env = {}
  for name in names:
    env |= environment(name, XLA_FLAGS=env.get('XLA_FLAGS', ''))
  result = subprocess.run(
    [sys.executable, '-c', 'import jax; jax.devices()'],
    env={**os.environ, **env},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr
