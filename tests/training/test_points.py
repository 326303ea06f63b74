"""Points of a curve, and the best state, for a metric that the test chooses."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from softdimo_jax.runtime import sharding
from softdimo_jax.runtime.curves import read_metrics
from softdimo_jax.runtime.preemption import PreemptionNotice
from softdimo_jax.training import loop, points
from softdimo_jax.training.supervised import SupervisedTrainer
from tests.training.plain_distillation import OPTIMIZER


class Killed(BaseException):
  """A process that ends at once."""


def train(folder, values=None, *, steps=25, every=10, keep_best='', kill=None):
  """Trains; `values` are the metrics by step, which `kill` ends early."""

  def loss(params, batch, frozen, key):
    x = jax.random.normal(key, (4, 8))
    value = ((x @ params['kernel'] - x) ** 2).mean()
    return value, {'loss': value}

  def evaluate(state):
    step = int(state.step)
    if step == kill:
      raise Killed
    return {name: float(of(step)) for name, of in values.items()}

  trainer = SupervisedTrainer.create(
    loss, ConfigDict({'optimizer': OPTIMIZER, 'steps': 25, 'ema_decay': 0.9})
  )
  stage = loop.Stage(
    name='small',
    steps=steps,
    step=trainer.step,
    init=trainer.init,
    start=lambda: {'kernel': np.ones((8, 8), np.float32)},
    frozen=lambda: None,
    batches=None,
    key=jax.random.key(0),
    evaluate=evaluate if values else None,
  )
  options = loop.LoopOptions(
    log_every=4,
    checkpoint_every=8,
    max_skipped=1,
    evaluate_every=every,
    keep_best=keep_best,
  )
  mesh = sharding.make_mesh()
  return loop.run(stage, folder, mesh, options, PreemptionNotice())


def rows(folder, *, evaluations):
  found = read_metrics(folder / 'metrics.jsonl')
  return [
    row
    for row in found
    if any(name.startswith('evaluation/') for name in row) == evaluations
  ]


def assert_equal(expected, actual):
  jax.tree.map(np.testing.assert_array_equal, expected, actual)


@pytest.mark.parametrize(
  ('every', 'steps'), [(10, [0, 10, 20, 25]), (5, [0, 5, 10, 15, 20, 25])]
)
def test_start_multiples_and_end_are_measured(tmp_path, every, steps):
  train(tmp_path, {'fid': lambda step: 2 * step}, every=every)
  found = rows(tmp_path, evaluations=True)
  assert [row['step'] for row in found] == steps
  assert [row['evaluation/fid'] for row in found] == [2 * x for x in steps]
  # What reads the end of the training finds it in the last line.
  assert 'loss' in read_metrics(tmp_path / 'metrics.jsonl')[-1]


def test_training_is_the_same_with_and_without(tmp_path):
  without = train(tmp_path / 'without')
  state = train(tmp_path / 'with', {'fid': float}, keep_best='fid')
  assert_equal(without, state)
  expected, actual = (
    rows(tmp_path / name, evaluations=False) for name in ('without', 'with')
  )
  assert len(expected) == 7 and expected == actual
  assert not rows(tmp_path / 'without', evaluations=True)
  assert points.best_record(tmp_path / 'without') is None


@pytest.mark.parametrize(('metric', 'sign'), [('fid', 1), ('recall', -1)])
def test_the_best_state_is_kept_and_the_earlier_of_equals(
  tmp_path, metric, sign
):
  values = {metric: lambda step: sign * abs(step - 15)}
  train(tmp_path, values, keep_best=metric)
  assert points.best_record(tmp_path) == {
    'step': 10, 'metric': metric, 'value': sign * 5.0,
  }  # fmt: skip
  assert [x.name for x in (tmp_path / 'best').iterdir() if x.is_dir()] == ['10']
  then = train(tmp_path / 'until_then', steps=10)
  assert_equal(then.model.ema, points.best_params(tmp_path, 10))


def test_the_start_is_never_the_best(tmp_path):
  train(tmp_path, {'fid': float}, keep_best='fid')
  assert points.best_record(tmp_path)['step'] == 10


# Checkpoints are at 8, 16, 24 and 25.
@pytest.mark.parametrize(
  ('kill', 'best'),
  [(5, 5), (15, 5), (15, 10), (20, 5), (25, 20), (20, 25)],
)
def test_killed_and_resumed_it_has_the_same_points_and_best(
  tmp_path, kill, best
):
  values = {'fid': lambda step: abs(step - best)}
  options = {'every': 5, 'keep_best': 'fid'}
  train(tmp_path / 'whole', values, **options)
  with pytest.raises(Killed):
    train(tmp_path / 'broken', values, **options, kill=kill)
  train(tmp_path / 'broken', values, **options)
  records, parameters, lines = zip(
    *(
      (
        points.best_record(tmp_path / name),
        points.best_params(tmp_path / name, best),
        rows(tmp_path / name, evaluations=True),
      )
      for name in ('whole', 'broken')
    ),
    strict=True,
  )
  assert records[0] == records[1] and records[0]['step'] == best
  assert_equal(*parameters)
  assert [row['step'] for row in lines[0]] == [0, 5, 10, 15, 20, 25]
  assert lines[0] == lines[1]


def test_leftovers_of_a_kill_while_the_best_is_stored_do_no_harm(tmp_path):
  values = {'fid': lambda step: -step}
  with pytest.raises(Killed):
    train(tmp_path, values, every=5, keep_best='fid', kill=20)
  (tmp_path / 'best' / '20').mkdir()  # parameters without their record
  train(tmp_path, values, every=5, keep_best='fid')
  assert points.best_record(tmp_path)['step'] == 25
  assert [x.name for x in (tmp_path / 'best').iterdir() if x.is_dir()] == ['25']
