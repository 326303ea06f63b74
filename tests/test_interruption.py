"""A run stopped at any moment ends with the same parameters, bit by bit.

The real command runs in processes that get real signals.
"""

import json
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import numpy as np
import pytest

from softdimo_jax.errors import PREEMPTED_CODE
from softdimo_jax.runtime import checkpoint
from softdimo_jax.runtime.curves import read_metrics

pytestmark = pytest.mark.command


_BEST = {'digits': 'fid', 'shapes': 'reward'}


def command(workdir: pathlib.Path) -> list[str]:
  """Of a workdir in a folder with the configuration's name."""
  return [
    sys.executable,
    '-m',
    'softdimo_jax.main',
    f'--config=configs/{workdir.parent.name}.py:tiny',
    '--config.loop.checkpoint_every=5',
    '--config.teacher.steps=40',
    '--config.dimo.steps=40',
    '--config.evaluation.every=7',
    '--config.evaluation.curve_images=20',
    f'--config.loop.keep_best={_BEST[workdir.parent.name]}',
    f'--workdir={workdir}',
  ]


def finish(workdir: pathlib.Path) -> None:
  result = subprocess.run(command(workdir), capture_output=True, text=True)
  assert result.returncode == 0, result.stderr[-2000:]


def interrupt(
  workdir: pathlib.Path,
  moment: Callable[[], bool],
  number: signal.Signals,
) -> int:
  """Starts the command, signals it at the moment, returns its exit code."""
  process = subprocess.Popen(
    command(workdir),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  deadline = time.monotonic() + 300
  while not moment():
    assert process.poll() is None, 'the run ended before the moment came'
    assert time.monotonic() < deadline, 'the moment never came'
    time.sleep(0.001)
  process.send_signal(number)
  return process.wait(timeout=120)


@pytest.mark.parametrize(
  ('name', 'often'),
  [
    ('digits', False),
    pytest.param('digits', True, marks=pytest.mark.slow),
    pytest.param('shapes', True, marks=pytest.mark.slow),
  ],
)
def test_interrupted_run_equals_uninterrupted_run(name, often, tmp_path):
  whole, broken = tmp_path / name / 'whole', tmp_path / name / 'broken'
  finish(whole)

  def lines(stage: str) -> Callable[[], bool]:
    path = broken / stage / 'metrics.jsonl'
    return lambda: path.exists() and len(path.read_text().splitlines()) >= 1

  def writing(stage: str) -> Callable[[], bool]:
    folder = broken / stage / 'checkpoints'
    return lambda: any(folder.glob('*tmp*'))

  started = lambda: (broken / 'config.json').exists()
  stop = lambda moment, number: interrupt(broken, moment, number)
  if often:
    assert stop(started, signal.SIGTERM) == PREEMPTED_CODE
    assert stop(writing('tokenizer'), signal.SIGKILL) == -signal.SIGKILL
  assert stop(lines('teacher'), signal.SIGTERM) == PREEMPTED_CODE
  assert stop(writing('dimo'), signal.SIGKILL) == -signal.SIGKILL
  if often:
    assert stop(lines('softdimo'), signal.SIGKILL) == -signal.SIGKILL
  finish(broken)

  for stage in json.loads((whole / 'config.json').read_text())['stages']:
    expected, actual = (
      checkpoint.load_params(workdir / stage / 'params')
      for workdir in (whole, broken)
    )
    jax.tree.map(np.testing.assert_array_equal, expected, actual)
    expected, actual = (points(workdir / stage) for workdir in (whole, broken))
    assert expected == actual
    assert bool(expected) == (stage in ('dimo', 'softdimo'))


def points(folder: pathlib.Path) -> list[dict]:
  """Points of the evaluation, and the record of the best, of a stage."""
  rows = read_metrics(folder / 'metrics.jsonl')
  best = folder / 'best' / 'best.json'
  return [
    *(row for row in rows if any('evaluation/' in name for name in row)),
    *([json.loads(best.read_text())] if best.exists() else []),
  ]
