"""Guarantees of the loop on one device; for several, see test_spread.py."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from softdimo_jax.errors import UserError
from softdimo_jax.runtime import sharding
from softdimo_jax.runtime.preemption import PreemptionNotice
from softdimo_jax.training import loop
from softdimo_jax.training.supervised import SupervisedTrainer
from tests.training.plain_distillation import OPTIMIZER

COMPILED = '/jax/core/compile/backend_compile_duration'


class Batches:
  """An endless iterator that records its calls."""

  def __init__(self):
    self.times, self.compiled, self.count = [], [], 0
    jax.monitoring.register_event_duration_secs_listener(self._listen)

  def _listen(self, event, duration, **_):
    self.count += event == COMPILED

  def __next__(self):
    self.times.append(time.perf_counter())
    self.compiled.append(self.count)
    return {'x': np.full((8, 64), len(self.times), np.float32)}

  def get_state(self):
    return {'next': len(self.times)}

  def set_state(self, state):
    self.times = [0.0] * state['next']

  def close(self):
    jax.monitoring.unregister_event_duration_listener(self._listen)


@pytest.fixture
def batches():
  iterator = Batches()
  yield iterator
  iterator.close()


def train(iterator, folder, steps, skipped=(), max_skipped=1):
  """Trains a small network; the gradients of some steps are not finite."""

  def loss(params, batch, frozen, key):
    x = batch['x'] * frozen['scale'] + jax.random.normal(key, batch['x'].shape)
    # The batch of step s holds the number s.
    bad = jnp.isin(batch['x'][0, 0], jnp.array([0, *skipped]))
    value = ((x @ params['kernel']) ** 2).mean() * jnp.where(bad, jnp.nan, 1)
    return value, {'loss': value}

  optimizer = OPTIMIZER | {'learning_rate': 1e-4}
  trainer = SupervisedTrainer.create(
    loss,
    ConfigDict({'optimizer': optimizer, 'steps': steps, 'ema_decay': 0.9}),
  )
  stage = loop.Stage(
    name='small',
    steps=steps,
    step=trainer.step,
    init=trainer.init,
    start=lambda: {'kernel': np.ones((64, 64), np.float32)},
    frozen=lambda: {'scale': np.float32(0.1)},
    batches=lambda: iterator,
    key=jax.random.key(0),
  )
  return loop.run(
    stage,
    folder,
    sharding.make_mesh(),
    loop.LoopOptions(
      log_every=10, checkpoint_every=50, max_skipped=max_skipped
    ),
    PreemptionNotice(),
  )


def test_everything_compiles_before_the_second_step(batches, tmp_path):
  train(batches, tmp_path, 60)
  assert batches.compiled[0] > 0
  assert batches.compiled[1] == batches.count


def test_implicit_transfers_are_refused(batches, tmp_path, monkeypatch):
  monkeypatch.setattr(sharding, 'put_batch', lambda batch, mesh: batch)
  with pytest.raises(Exception, match=r'[Dd]isallowed host-to-device'):
    train(batches, tmp_path, 2)


def test_continues_from_the_position_in_the_data(batches, tmp_path):
  train(batches, tmp_path, 50)
  other = Batches()
  state = train(other, tmp_path, 60)
  other.close()
  assert len(other.times) == 60 and int(state.step) == 60


@pytest.mark.parametrize(
  ('steps', 'skipped', 'max_skipped'),
  [(4, (1, 2, 3, 4), 50), (1, (1,), 50), (8, range(4, 9), 50), (9, (2, 3), 1)],
)
def test_a_stage_that_does_not_learn_is_not_done(
  steps, skipped, max_skipped, batches, tmp_path
):
  with pytest.raises(UserError, match='stage small: updates have not been fin'):
    train(batches, tmp_path, steps, skipped, max_skipped)
  assert not (tmp_path / 'checkpoints' / str(steps)).exists()


def test_skipped_updates_are_said(batches, tmp_path, caplog):
  train(batches, tmp_path, 8, (3,))
  assert 'stage small: 1 updates in 8 steps were skipped' in caplog.text


@pytest.mark.slow
def test_step_time_is_constant(batches, tmp_path):
  train(batches, tmp_path, 260)
  seconds = np.diff(batches.times)
  early, late = np.median(seconds[20:60]), np.median(seconds[200:])
  assert late < 1.3 * early
