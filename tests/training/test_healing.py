"""A run that was stopped or damaged ends as if nothing had happened."""

import pathlib
import shutil

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from softdimo_jax.errors import Preempted
from softdimo_jax.runtime import sharding
from softdimo_jax.runtime.curves import read_metrics
from softdimo_jax.runtime.preemption import PreemptionNotice
from softdimo_jax.training import loop
from softdimo_jax.training.supervised import SupervisedTrainer
from tests.training.plain_distillation import OPTIMIZER


class Batches:
  """An endless iterator with a position."""

  def __init__(self):
    self.position = 0

  def __next__(self):
    self.position += 1
    return {'x': np.full((8, 4), self.position, np.float32)}

  def get_state(self):
    return {'next': self.position}

  def set_state(self, state):
    self.position = state['next']


class StopAfter(PreemptionNotice):
  """A signal that arrives during a step."""

  def __init__(self, step):
    super().__init__()
    self.left = step

  def poll(self):
    self.left -= 1
    return self.left == 0


def train(folder, stop=0):
  def loss(params, batch, frozen, key):
    x = batch['x'] + jax.random.normal(key, batch['x'].shape)
    value = ((x @ params['kernel']) ** 2).mean()
    return value, {'loss': value}

  trainer = SupervisedTrainer.create(
    loss, ConfigDict({'optimizer': OPTIMIZER, 'steps': 20, 'ema_decay': 0.9})
  )
  stage = loop.Stage(
    name='small',
    steps=20,
    step=trainer.step,
    init=trainer.init,
    start=lambda: {'kernel': np.ones((4, 4), np.float32)},
    frozen=lambda: None,
    batches=Batches,
    key=jax.random.key(0),
  )
  return loop.run(
    stage,
    folder,
    sharding.make_mesh(),
    loop.LoopOptions(log_every=6, checkpoint_every=5, max_skipped=1),
    StopAfter(stop),
  )


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  folder = tmp_path_factory.mktemp('whole')
  return folder, train(folder)


def stopped(folder, step):
  with pytest.raises(Preempted):
    train(folder, stop=step)


def size(path):
  return path.stat().st_size


def damage(checkpoint):
  """Flips a bit of the largest file, which holds the arrays."""
  path = max(filter(pathlib.Path.is_file, checkpoint.rglob('*')), key=size)
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def assert_same(whole, folder):
  expected, state = whole
  jax.tree.map(np.testing.assert_array_equal, train(folder), state)
  assert read_metrics(folder / 'metrics.jsonl') == read_metrics(
    expected / 'metrics.jsonl'
  )


def test_a_window_that_is_cut_by_a_signal_has_the_same_mean(whole, tmp_path):
  for step in (8, 3, 7):  # of the remaining steps: after 8, 11 and 18
    stopped(tmp_path, step)
  assert_same(whole, tmp_path)


def test_the_checkpoint_before_a_damaged_one_is_taken(whole, tmp_path, capsys):
  stopped(tmp_path, 12)
  checkpoints = tmp_path / 'checkpoints'
  damage(checkpoints / '12')
  assert_same(whole, tmp_path)
  said = capsys.readouterr().err.splitlines()
  assert [
    x for x in said if 'is damaged' in x and 'from the one of step 10' in x
  ]
  assert (checkpoints / '12.damaged').is_dir()
  assert {'15', '20'} <= {x.name for x in checkpoints.iterdir()}


def test_an_unfinished_stage_without_a_whole_one_begins_anew(
  whole, tmp_path, capsys
):
  stopped(tmp_path, 12)
  for step in ('10', '12'):
    damage(tmp_path / 'checkpoints' / step)
  assert_same(whole, tmp_path)
  assert capsys.readouterr().err.count('its stage goes on anew') == 2


def test_unfinished_checkpoints_are_removed(whole, tmp_path):
  stopped(tmp_path, 12)
  left = tmp_path / 'checkpoints' / '15.orbax-checkpoint-tmp'
  shutil.copytree(tmp_path / 'checkpoints' / '12', left)
  assert_same(whole, tmp_path)
  assert not left.exists()


def test_a_damaged_position_in_the_data_is_found(whole, tmp_path):
  stopped(tmp_path, 12)
  path = tmp_path / 'checkpoints' / '12' / 'data' / 'metadata'
  path.write_text(path.read_text().replace('12', '13'))
  assert_same(whole, tmp_path)
