"""Launch scripts that start a command again, in local processes."""

import signal
import subprocess
import time

import pytest

from softdimo_jax.errors import PREEMPTED_CODE
from tests.launch.scripts import LAUNCH, launch

REPORT = 'echo "$*"'
FAILS = '[[ $* != *process_id=1* ]] || exit 4; sleep 60'
KILLED = (
  '[[ $* != *process_id=1* ]] || kill -9 $$; trap "" TERM; '
  'while sleep 0.1; do :; done'
)
SAVES = 'trap "exit 75" TERM; echo ready; while sleep 0.05; do :; done'


def local(*options, code):
  return launch(
    'local_multiprocess.sh', *options, '--', 'bash', '-c', code, 'x'
  )


def test_all_processes_run_and_their_lines_are_numbered():
  result = local('3', code=REPORT)
  assert result.returncode == 0, result.stderr
  lines = sorted(result.stdout.splitlines())
  assert [line[:4] for line in lines] == ['[0] ', '[1] ', '[2] ']
  assert len({line.split()[1] for line in lines}) == 1  # one coordinator


@pytest.mark.parametrize(('code', 'expected'), [(FAILS, 4), (KILLED, 137)])
def test_when_one_process_fails_all_are_stopped(code, expected):
  start = time.monotonic()
  result = local('2', '--grace=0', code=code)
  assert result.returncode == expected
  assert f'process 1 exited with {expected}' in result.stderr
  assert time.monotonic() - start < 20


def test_processes_that_saved_are_started_again():
  result = local('2', '--max-restarts=1', code='echo run; exit 75')
  assert result.returncode == PREEMPTED_CODE
  assert result.stdout.count('run') == 4


@pytest.mark.parametrize(
  'words',
  [
    ('local_multiprocess.sh', '2', '--max-restarts=5'),
    ('restart.sh', '--max-restarts=5'),
  ],
)
def test_a_signal_is_handed_on_and_ends_the_restarts(words, tmp_path):
  script, *options = words
  process = subprocess.Popen(
    ['bash', LAUNCH / script, *options, '--', 'bash', '-c', SAVES],
    stdout=subprocess.PIPE,
    text=True,
  )
  assert 'ready' in process.stdout.readline()
  if script == 'local_multiprocess.sh':
    assert 'ready' in process.stdout.readline()
  process.send_signal(signal.SIGTERM)
  rest, _ = process.communicate(timeout=20)
  assert process.returncode == PREEMPTED_CODE
  assert 'ready' not in rest


def test_restart_counts_and_writes_the_last_code_down(tmp_path):
  file, runs = tmp_path / 'code', tmp_path / 'runs'
  result = launch(
    'restart.sh',
    '--max-restarts=2',
    f'--code-file={file}',
    '--',
    'bash',
    '-c',
    f'echo >> {runs}; exit 75',
  )
  assert result.returncode == PREEMPTED_CODE
  assert file.read_text() == '75\n'
  assert runs.read_text() == '\n' * 3
