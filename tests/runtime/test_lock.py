"""A second process is refused; the lock dies with the first one."""

import signal
import subprocess
import sys
import textwrap

import pytest

from softdimo_jax.convert import command
from softdimo_jax.errors import UserError
from softdimo_jax.runtime import lock

# Only the module itself: the package takes seconds to import.
HOLDER = textwrap.dedent("""
  import sys, time
  from softdimo_jax.runtime import lock
  with lock.held(sys.argv[1]):
    print('held', flush=True)
    time.sleep(60)
""")


@pytest.mark.parametrize('name', ['run', 'samples.npz'])
def test_a_second_owner_is_refused_and_a_released_lock_leaves_nothing(
  name, tmp_path
):
  output = tmp_path / name
  with lock.held(output):
    with (
      pytest.raises(UserError, match=r'is being written by process \d+ on'),
      lock.held(output),
    ):
      pass
    with lock.held(tmp_path / 'other'):
      pass
  with lock.held(output):
    pass
  assert not list(tmp_path.rglob('*lock*'))
  assert not list(tmp_path.iterdir())  # only folders that it made
  output.mkdir()
  with lock.held(output / 'samples.npz'), lock.held(output):
    pass
  assert output.exists()


def test_the_lock_of_a_killed_process_holds_nothing(tmp_path):
  holder = subprocess.Popen(
    [sys.executable, '-c', HOLDER, tmp_path], stdout=subprocess.PIPE, text=True
  )
  try:
    assert holder.stdout.readline() == 'held\n'
    with pytest.raises(UserError, match=str(holder.pid)), lock.held(tmp_path):
      pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with lock.held(tmp_path):
      pass
  finally:
    holder.kill()
    holder.stdout.close()
  assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, caplog):
  def refuse(*_):
    raise OSError(37, 'No locks available')

  monkeypatch.setattr(lock.fcntl, 'flock', refuse)
  with lock.held(tmp_path):
    pass
  assert 'let no other process write it' in caplog.text


def test_one_process_at_a_time_converts(tmp_path):
  conversion = command.Conversion(
    'maskgit', weights='./no/such.pth', out=tmp_path / 'out'
  )
  with (
    lock.held(tmp_path / 'out', beside=True),
    pytest.raises(UserError, match='out is being written by'),
  ):
    command.run(conversion)
  with pytest.raises(UserError, match=r'such\.pth is neither'):
    command.run(conversion)
  assert not list(tmp_path.iterdir())
