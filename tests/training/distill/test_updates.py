"""How often the auxiliary and the heads are updated, and the burn-in."""

import jax
import numpy as np
import pytest

from softdimo_jax.training.distill.keys import Keys, tagged
from softdimo_jax.training.state import Frozen
from tests.training.plain_distillation import (
  LATE,
  Setting,
  quick_jit,
)


def moved(after, before):
  """Sum of absolute changes of all parameters of a role."""
  return sum(
    float(np.abs(a - b).sum())
    for a, b in zip(
      jax.tree.leaves(after.params), jax.tree.leaves(before.params), strict=True
    )
  )


def count(role):
  """Updates that Adam has made."""
  is_adam = lambda state: hasattr(state, 'mu')
  states = jax.tree.leaves(role.opt_state, is_leaf=is_adam)
  return next(int(state.count) for state in states if is_adam(state))


def test_the_student_waits_while_the_auxiliary_burns_in():
  s = Setting('maskgit', **{'auxiliary.burn_in': LATE + 1})
  before = s.start()
  waiting, _ = s.run(before)
  jax.tree.map(np.testing.assert_array_equal, waiting.model, before.model)
  assert moved(waiting.auxiliary, before.auxiliary) > 0
  after, _ = s.run(s.start(LATE + 1))
  with pytest.raises(AssertionError):
    jax.tree.map(np.testing.assert_array_equal, after.model, before.model)


def test_the_average_counts_updates_of_the_student():
  """The start has the weight 1 / 10 after the first one."""
  s = Setting('maskgit', **{'auxiliary.burn_in': LATE})
  before = s.start(LATE)
  after, _ = s.run(before)
  jax.tree.map(
    lambda average, old, new: np.testing.assert_allclose(
      average, 0.1 * old + 0.9 * new, rtol=1e-5, atol=1e-6
    ),
    after.model.ema,
    before.model.params,
    after.model.params,
  )


def test_the_auxiliary_is_updated_more_often():
  s = Setting('maskgit', **{'auxiliary.updates': 3})
  after, metrics = s.run(s.start())
  once, _ = Setting('maskgit').run(Setting('maskgit').start())
  before = s.start().auxiliary
  assert moved(after.auxiliary, before) > 1.5 * moved(once.auxiliary, before)
  assert np.isfinite(metrics['auxiliary/cross_entropy'])


@pytest.mark.parametrize('fakes', ['soft', 'hard'])
def test_the_heads_are_updated_more_often(fakes):
  """The further updates leave the student and the first update as they are."""
  changes = {'gan.fakes': fakes, 'gan.max_mask_ratio': 0.9, 'temperature': 1.0}
  states = {}
  for updates in (1, 3):
    s = Setting('maskgit', **changes, **{'gan.updates': updates})
    step = quick_jit(s.distiller.step)
    states[updates], metrics = step(
      s.start(), s.batch, Frozen(s.teacher), jax.random.key(0)
    )
    assert np.isfinite(metrics['discriminator/gradient_norm'])
  once, thrice = states[1], states[3]
  jax.tree.map(
    np.testing.assert_allclose, once.model.params, thrice.model.params
  )
  assert moved(thrice.discriminator, once.discriminator) > 1
  counts = [count(state.discriminator) for state in (once, thrice)]
  assert counts == [1, 3]


def test_further_updates_of_the_heads_run_in_parts():
  """With the memory of one part."""
  changes = {'gan.updates': 2, 'gan.max_mask_ratio': 0.9, 'temperature': 1.0}
  s = Setting('maskgit', **changes, **{'accumulation': 3, 'gan.r1_weight': 1.0})
  masks = []
  draw = type(s.distiller.gan_term)._draw_mask

  def record(term, key, shape):
    masks.append(shape[0])
    return draw(term, key, shape)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(type(s.distiller.gan_term), '_draw_mask', record)
    state, _ = jax.eval_shape(
      s.distiller.step,
      s.start(),
      s.batch,
      Frozen(s.teacher),
      jax.random.key(0),
    )
  assert set(masks) == {1}
  assert state.step.shape == ()


def test_further_keys_of_a_step_differ_from_all_others():
  key = jax.random.key(0)
  data = lambda keys: {tuple(jax.random.key_data(k).tolist()) for k in keys}
  parts = [jax.random.fold_in(key, index) for index in range(8)]
  others = data([key, *parts, *Keys.of(key), *Keys.of(parts[0])])
  purposes = ('auxiliary', 'discriminator', 'init')
  further = data(
    tagged(key, x, number) for x in purposes for number in range(3)
  )
  assert len(further) == 9
  assert not further & others
