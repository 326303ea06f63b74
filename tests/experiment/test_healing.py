"""Damaged parameters of a stage, and what becomes of them."""

import pathlib

import numpy as np
import pytest

from configs import digits
from softdimo_jax.errors import UserError
from softdimo_jax.experiment.healing import heal
from softdimo_jax.experiment.run import Run
from softdimo_jax.runtime import checkpoint
from softdimo_jax.runtime.checkpoint import Checkpoints
from softdimo_jax.training import points

TREE = {'model': {'a': np.arange(200, dtype=np.float32)}}


@pytest.fixture
def run(tmp_path):
  """A finished stage with two checkpoints and a best state."""
  config = digits.get_config('tiny')
  config.loop.keep_best = 'fid'
  run = Run(tmp_path, config)
  folder = run.folder('dimo')
  checkpoints = Checkpoints(folder / 'checkpoints', interval=1)
  for step in (1, 2):
    checkpoints.save(step, TREE, None, [])
  checkpoints.close()
  checkpoint.save_params(folder / 'params', TREE)
  kept = points.Points(None, 1, 2, 'fid', folder)
  kept._offer(1, 3.0, TREE)
  return run


def size(path):
  return path.stat().st_size


def damage(folder):
  path = max(filter(pathlib.Path.is_file, folder.rglob('*')), key=size)
  data = path.read_bytes()
  path.write_bytes(data[: len(data) // 2])


def names(folder):
  return sorted(x.name for x in folder.iterdir())


def test_a_whole_stage_stays_as_it_is(run, capsys):
  before = names(run.folder('dimo'))
  heal(run, 'dimo')
  heal(run, 'teacher')  # not begun
  assert names(run.folder('dimo')) == before
  assert capsys.readouterr().err == ''


def test_damaged_parameters_are_read_by_nobody_and_set_aside(run, capsys):
  damage(run.folder('dimo') / 'params')
  with pytest.raises(UserError, match=r'are damaged .* repeat the command'):
    run.params('dimo')
  heal(run, 'dimo')
  assert not run.done('dimo')
  assert 'params.damaged' in names(run.folder('dimo'))
  assert 'restored from the checkpoint of step 2' in capsys.readouterr().err


def test_the_newest_whole_checkpoint_is_named(run, capsys):
  damage(run.folder('dimo') / 'params')
  damage(run.folder('dimo') / 'checkpoints' / '2')
  heal(run, 'dimo')
  assert 'restored from the checkpoint of step 1' in capsys.readouterr().err


def test_without_a_whole_checkpoint_nothing_is_touched_and_advice_leads_out(
  run,
):
  folder = run.folder('dimo')
  damage(folder / 'params')
  for step in '12':
    damage(folder / 'checkpoints' / step)
  before = names(folder)
  with pytest.raises(UserError, match=r'no checkpoint .* is whole') as caught:
    heal(run, 'dimo')
  assert str(folder / 'params') in str(caught.value)
  assert names(folder) == before
  (folder / 'params').rename(folder / 'params.away')  # as the advice says
  heal(run, 'dimo')
  assert not run.done('dimo')


@pytest.mark.parametrize('what', ['parameters', 'record', 'value'])
def test_an_unfinished_stage_whose_best_is_damaged_begins_anew(run, what):
  folder = run.folder('dimo')
  (folder / 'params').rename(folder / 'away')
  record = folder / 'best' / 'best.json'
  if what == 'parameters':
    damage(folder / 'best' / '1')
  elif what == 'record':
    record.write_text('{"st')
  else:
    record.write_text(record.read_text().replace('3.0', '2.0'))
  heal(run, 'dimo')
  assert {'best.damaged', 'checkpoints.damaged'} <= set(names(folder))
  assert points.best_record(folder) is None
