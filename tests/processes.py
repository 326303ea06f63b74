"""Starts the processes of a run that has several."""

import os
import socket
import subprocess
import sys


def environment(devices):
  """Of a process with so many CPU devices."""
  count = f'--xla_force_host_platform_device_count={devices}'
  flags = os.environ.get('XLA_FLAGS', '')
  return os.environ | {'XLA_FLAGS': f'{flags} {count}', 'JAX_PLATFORMS': 'cpu'}


def free_address():
  """Where process 0 can listen."""
  with socket.socket() as server:
    server.bind(('localhost', 0))
    return f'localhost:{server.getsockname()[1]}'


def start(arguments, devices=1, log=None):
  """A Python process; its output goes to `log`, by default nowhere."""
  output = subprocess.DEVNULL if log is None else log.open('w')
  return subprocess.Popen(
    [sys.executable, *arguments],
    env=environment(devices),
    stdout=output,
    stderr=subprocess.STDOUT,
  )


def wait(processes, seconds=300):
  """Exit codes; whoever has not ended by then is killed."""
  try:
    return [process.wait(timeout=seconds) for process in processes]
  finally:
    for process in processes:
      process.kill()
