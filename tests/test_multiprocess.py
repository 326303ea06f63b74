"""The training command in two processes of two devices each."""

import json
import os
import pathlib
import signal
import time

import jax
import numpy as np
import pytest

from softdimo_jax.errors import (
  LOST_CODE,
  PREEMPTED_CODE,
  USER_ERROR_CODE,
  UserError,
)
from softdimo_jax.runtime import checkpoint, distributed
from tests import processes

pytestmark = pytest.mark.command

CONFIG = 'tests/short_run.py'


def command(workdir, *more, config=CONFIG):
  return [
    '-m',
    'softdimo_jax.main',
    f'--config={config}',
    f'--workdir={workdir}',
    *more,
  ]


def start_two(workdir, logs, config=CONFIG):
  address = processes.free_address()
  logs.mkdir(exist_ok=True)
  return [
    processes.start(
      command(
        workdir,
        f'--coordinator={address}',
        '--num_processes=2',
        f'--process_id={index}',
        config=config,
      ),
      2,
      logs / f'{index}.log',
    )
    for index in range(2)
  ]


def tail(logs):
  return '\n'.join(log.read_text()[-2000:] for log in sorted(logs.iterdir()))


def wait_for_step(workdir: pathlib.Path, stage: str, step: int, running):
  path = workdir / stage / 'metrics.jsonl'
  deadline = time.monotonic() + 400
  while not (path.exists() and f'"step": {step}' in path.read_text()):
    assert all(process.poll() is None for process in running)
    assert time.monotonic() < deadline
    time.sleep(0.01)


def saved_steps(workdir, stage):
  folder = workdir / stage / 'checkpoints'
  return sorted(int(path.name) for path in folder.iterdir())


def assert_equal(one, other, *, atol=0.0):
  for stage in json.loads((one / 'config.json').read_text())['stages']:
    expected, actual = (
      checkpoint.load_params(workdir / stage / 'params')
      for workdir in (one, other)
    )
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol),
      expected,
      actual,
    )


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """Workdir of two processes that nobody disturbed."""
  folder = tmp_path_factory.mktemp('whole')
  running = start_two(folder / 'run', folder / 'logs')
  assert processes.wait(running, 600) == [0, 0], tail(folder / 'logs')
  return folder / 'run'


@pytest.mark.slow
def test_first_process_reports(tmp_path):
  running = start_two(
    tmp_path / 'run', tmp_path / 'logs', 'configs/digits.py:tiny'
  )
  assert processes.wait(running, 600) == [0, 0], tail(tmp_path / 'logs')
  assert (tmp_path / 'run' / 'report.html').exists()


@pytest.mark.slow
def test_one_process_writes_the_curves(whole):
  rows = (whole / 'dimo' / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(row)['step'] for row in rows] == list(range(1, 151))


@pytest.mark.slow
@pytest.mark.parametrize('stopped', [0, 1])
def test_sigterm_to_one_saves_all_and_resumes_bitwise(whole, tmp_path, stopped):
  workdir, logs = tmp_path / 'run', tmp_path / 'logs'
  running = start_two(workdir, logs)
  wait_for_step(workdir, 'dimo', 20, running)
  running[stopped].send_signal(signal.SIGTERM)
  codes = processes.wait(running, 120)
  assert codes == [PREEMPTED_CODE] * 2, tail(logs)
  (step,) = saved_steps(workdir, 'dimo')
  assert 20 <= step < 150
  running = start_two(workdir, logs)
  assert processes.wait(running, 600) == [0, 0], tail(logs)
  assert_equal(whole, workdir)


@pytest.mark.slow
@pytest.mark.parametrize('killed', [0, 1])
def test_sigkill_of_one_stops_the_other(tmp_path, killed):
  workdir, logs = tmp_path / 'run', tmp_path / 'logs'
  running = start_two(workdir, logs)
  wait_for_step(workdir, 'dimo', 20, running)
  running[killed].kill()
  start = time.monotonic()
  other = running[1 - killed]
  code = processes.wait([other], 120)[0]
  assert time.monotonic() - start < 120
  text = (logs / f'{1 - killed}.log').read_text()
  assert code == LOST_CODE, text[-3000:]
  assert 'lost another process' in text


@pytest.mark.slow
@pytest.mark.parametrize('first', [1, 2])
def test_checkpoint_of_some_processes_restores_on_others(
  whole, tmp_path, first
):
  workdir, logs = tmp_path / 'run', tmp_path / 'logs'

  def begin(count):
    if count == 2:
      return start_two(workdir, logs)
    logs.mkdir(exist_ok=True)
    return [processes.start(command(workdir), 4, logs / 'one.log')]

  running = begin(first)
  wait_for_step(workdir, 'dimo', 20, running)
  running[0].send_signal(signal.SIGTERM)
  codes = processes.wait(running, 120)
  assert codes == [PREEMPTED_CODE] * first, tail(logs)
  (first_step_after_stop,) = saved_steps(workdir, 'dimo')
  assert processes.wait(begin(3 - first), 600) == [0] * (3 - first), tail(logs)
  rows = (workdir / 'dimo' / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(row)['step'] for row in rows] == list(range(1, 151))
  # The first loss after the change is that of the run that had none.
  loss = lambda row: json.loads(row)['auxiliary/cross_entropy']
  undisturbed = (whole / 'dimo' / 'metrics.jsonl').read_text().splitlines()
  index = first_step_after_stop
  np.testing.assert_allclose(
    loss(rows[index]), loss(undisturbed[index]), rtol=1e-3
  )


@pytest.mark.slow
def test_mistakes_stop_all_processes(tmp_path):
  logs = tmp_path / 'logs'
  logs.mkdir()
  address = processes.free_address()
  flags = [f'--coordinator={address}', '--num_processes=2']
  start = lambda index, *more: processes.start(
    command(tmp_path / 'run', *flags, f'--process_id={index}', *more),
    2,
    logs / f'{index}.log',
  )
  running = [start(0), start(1, '--config.seed=1')]
  assert processes.wait(running, 120) == [USER_ERROR_CODE] * 2, tail(logs)
  for log in logs.iterdir():
    assert 'Traceback' not in log.read_text()
    assert 'another configuration' in log.read_text()


@pytest.mark.parametrize(
  ('flags', 'words'),
  [
    (['--coordinator=localhost:1'], '--num_processes'),
    (['--num_processes=2', '--process_id=0'], '--coordinator'),
    (
      ['--coordinator=here', '--num_processes=2', '--process_id=0'],
      'HOST:PORT',
    ),
    (
      ['--coordinator=a:1', '--num_processes=2', '--process_id=2'],
      '0..1',
    ),
  ],
)
def test_incomplete_flags_are_refused(flags, words):
  values = dict(flag.removeprefix('--').split('=') for flag in flags)
  number = lambda name: int(values[name]) if name in values else None
  with pytest.raises(UserError, match=words):
    distributed.initialize(
      values.get('coordinator'), number('num_processes'), number('process_id')
    )


@pytest.mark.parametrize(
  ('environment', 'expected'),
  [
    ({}, False),
    ({'SLURM_NTASKS': '1', 'SLURM_PROCID': '0'}, False),
    ({'SLURM_NTASKS': '4', 'SLURM_PROCID': '2'}, True),
    # A shell of an allocation, not one of its tasks.
    ({'SLURM_NTASKS': '4'}, False),
    ({'OMPI_COMM_WORLD_SIZE': '2'}, True),
    ({'TPU_WORKER_HOSTNAMES': 'a,b'}, True),
    ({'TPU_WORKER_HOSTNAMES': 'localhost'}, False),
    ({'JAX_COORDINATOR_ADDRESS': 'a:1'}, True),
  ],
)
def test_processes_of_a_cluster_are_detected(
  monkeypatch, environment, expected
):
  joined = []
  monkeypatch.setattr(os, 'environ', {'JAX_PLATFORMS': 'cpu'} | environment)
  monkeypatch.setattr(
    jax.distributed, 'initialize', lambda *a, **k: joined.append(a)
  )
  distributed.initialize(None, None, None)
  assert bool(joined) == expected
