"""A process that does not ask ends soon after a signal, unless it saves."""

import signal
import subprocess
import sys
import textwrap
import time

import pytest

from softdimo_jax.errors import PREEMPTED_CODE

BUSY = textwrap.dedent("""
  import ctypes, sys, time
  from softdimo_jax.runtime import preemption
  preemption._GRACE_SECONDS = 0.3
  notice = preemption.PreemptionNotice()
  notice.install()
  print('ready', flush=True)
  if sys.argv[1] == 'compiling':  # C code that returns late
    ctypes.CDLL(None).sleep(60)
    ctypes.CDLL(None).sleep(60)
  elif sys.argv[1] == 'saving':
    with notice.saving():
      while not notice.poll():
        time.sleep(0.1)
      time.sleep(2)
      print('saved', flush=True)
    time.sleep(60)
  else:
    while not notice.poll():
      time.sleep(0.1)
""")


@pytest.mark.parametrize(
  ('work', 'code', 'said'),
  [
    ('compiling', PREEMPTED_CODE, ''),
    ('saving', PREEMPTED_CODE, 'saved\n'),
    ('asking', 0, ''),
  ],
)
def test_a_signal_ends_the_process_in_time(work, code, said):
  process = subprocess.Popen(
    [sys.executable, '-c', BUSY, work],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  try:
    assert process.stdout.readline() == 'ready\n'
    start = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=50)
  finally:
    process.kill()
  assert process.returncode == code
  assert out == said
  assert time.monotonic() - start < 40
  assert ('stopped by SIGTERM' in err) == (code == PREEMPTED_CODE)
