"""Runs the launch scripts."""

import os
import pathlib
import subprocess
import time

ROOT = pathlib.Path(__file__).parents[2]
LAUNCH = ROOT / 'launch'


def launch(script, *arguments, tools=None, **env):
  path = os.environ['PATH'] if tools is None else f'{tools}:/usr/bin:/bin'
  return subprocess.run(
    ['bash', LAUNCH / script, *arguments],
    env={**os.environ, 'PATH': path, **env},
    capture_output=True,
    text=True,
    timeout=60,
  )


def wait_until(condition, seconds=20):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.05)


# Compiler flags.
