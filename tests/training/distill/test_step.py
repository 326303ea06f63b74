"""The distillation step."""

import functools
from unittest import mock

import flax.linen as nn
import jax
import numpy as np
import pytest

from softdimo_jax.method import masking
from softdimo_jax.training.state import Frozen
from tests.training.plain_distillation import (
  BATCH,
  LATE,
  MODELS,
  Setting,
  assert_close,
  first_gradient,
  quick_jit,
)

NO_GAN = {'gan.weight': 0.0}
NATURAL = {
  'temperature': 1.0, 'init.noise_scale': 0.1, 'gan.max_mask_ratio': 0.95
}  # fmt: skip
DROPOUT = {'dropout': True, 'teacher_dropout': True}


@functools.cache
def setting(name, **changes):
  return Setting(name, **changes)


@pytest.mark.parametrize(
  ('name', 'changes'),
  [
    ('maskgit', {}),
    ('maskbit', {'auxiliary.fresh_sample': True, 'gan.r1_weight': 2.0}),
  ],
)
def test_gradients_are_those_of_the_plain_composition(name, changes):
  """The auxiliary trains on a fresh sample of the updated student."""
  s = setting(name, **changes)
  before = s.start()
  after, metrics = s.run(before)

  @quick_jit
  def plain(state, updated_student):
    student, auxiliary = state.model.params, state.auxiliary.params
    heads = state.discriminator.params
    fresh = s.config.auxiliary.fresh_sample
    teaching = updated_student if fresh else student
    gradients = (
      jax.grad(s.generator_loss)(student, auxiliary, heads),
      jax.grad(s.auxiliary_loss)(auxiliary, teaching),
      jax.grad(s.heads_loss)(heads, student),
    )
    old, new = (s.sample(params)[0] for params in (student, updated_student))
    return gradients, (old != new).any()

  expected, samples_differ = plain(before, after.model.params)
  assert samples_differ
  for role, gradient in zip(
    (after.model, after.auxiliary, after.discriminator), expected, strict=True
  ):
    assert_close(first_gradient(role), gradient)
  for metric, value in metrics.items():
    assert np.isfinite(value), metric


def test_gan_reaches_the_student_only_through_unmasked_entries():
  s = setting('maskgit')
  ratio = lambda mask: s.run(s.start(), mask)[1]['gan/gradient_ratio']
  assert ratio(np.ones_like(s.mask)) == 0
  one_open = np.ones_like(s.mask)
  one_open[0, 0] = False
  assert ratio(one_open) > 0


def test_weight_of_the_gan_waits_and_then_rises():
  s = setting('maskgit')
  ratios = [
    s.run(s.start(step))[1]['gan/gradient_ratio'] for step in (0, 9, 14, 19, 30)
  ]
  full = ratios[-1]
  np.testing.assert_allclose(
    ratios, full * np.array([0, 0, 0.5, 1, 1]), rtol=1e-5
  )


def test_heads_learn_while_the_gan_waits():
  s = setting('maskgit')
  after, _ = s.run(s.start(0))
  change = jax.tree.map(
    lambda a, b: np.abs(a - b).max(),
    after.discriminator.params,
    s.start().discriminator.params,
  )
  assert min(jax.tree.leaves(change['heads']['in'])) > 0.01


def test_frozen_parameters_are_not_in_the_state():
  for name in MODELS:
    s = Setting(name)
    paths = [
      jax.tree_util.keystr(path)
      for path, _ in jax.tree.leaves_with_path(s.start())
    ]
    assert any('layers' in path for path in paths)
    for frozen in s.family.generator.frozen:
      assert frozen in s.teacher
      assert not any(f"'{frozen}'" in path for path in paths)


@pytest.fixture(scope='module')
def natural():
  """A setting without mocked draws, and its step compiled as in the loop."""
  s = setting('maskbit', **NATURAL, **DROPOUT)
  step = quick_jit(s.distiller.step, donate_argnums=0)
  return s, lambda state, teacher=s.teacher, seed=0: step(
    state, s.batch, Frozen(teacher), jax.random.key(seed)
  )


def test_step_is_a_function_of_key_and_index(natural):
  s, step = natural
  state, metrics = step(s.start())
  assert state.step == LATE + 1
  assert all(np.isfinite(value) for value in metrics.values())
  again, metrics_again = step(s.start())
  jax.tree.map(np.testing.assert_array_equal, state, again)
  assert metrics == metrics_again
  for _, other in (step(s.start(), seed=1), step(s.start(LATE + 1))):
    assert other['student/entropy'] != metrics['student/entropy']
    assert other['dimo/loss'] != metrics['dimo/loss']


def test_training_leaves_the_teacher_as_it_is(natural):
  s, step = natural
  # The student starts as the teacher itself, and its state is donated.
  before = jax.tree.map(np.array, s.teacher)
  state = s.start(student=s.teacher)
  for _ in range(3):
    state, _ = step(state)
  jax.tree.map(np.testing.assert_array_equal, s.teacher, before)
  trained, _ = s.family.split(before)
  moved = jax.tree.map(lambda a, b: (a != b).any(), state.model.params, trained)
  assert np.mean(jax.tree.leaves(moved)) > 0.9


def test_a_broken_teacher_stops_every_update(natural):
  s, step = natural
  broken = jax.tree.map(lambda leaf: leaf * np.nan, s.teacher)
  state, metrics = step(s.start(), broken)
  assert state.step == LATE + 1
  for role in ('generator', 'auxiliary', 'discriminator'):
    assert metrics[f'{role}/skipped'] == 1
  start = s.start()
  jax.tree.map(
    np.testing.assert_array_equal,
    [state.model.params, state.model.ema, state.auxiliary.params],
    [start.model.params, start.model.ema, start.auxiliary.params],
  )


def passes(**changes):
  """(batch size, whether dropout is active) per generator pass of a step."""
  s = Setting('maskgit', **changes)
  found = []

  def record(call, args, kwargs, context):
    if context.method_name == 'from_features':
      found.append((args[0].shape[0], not kwargs['deterministic']))
    return call(*args, **kwargs)

  start, key = s.start(), jax.random.key(0)
  with nn.intercept_methods(record):
    state, _ = jax.eval_shape(
      s.distiller.step, start, s.batch, Frozen(s.teacher), key
    )
  # The loop donates the state, so no shape in it may change.
  jax.tree.map(
    lambda a, b: np.testing.assert_equal(a.shape, b.shape), state, start
  )
  return sorted(found)


def test_dropout_acts_on_the_networks_it_is_asked_for():
  student = auxiliary = (BATCH, True)
  features, teacher = (BATCH, False), (2 * BATCH, False)
  assert passes(dropout=True) == sorted(
    [student, auxiliary, features, features, teacher]
  )
  assert passes(teacher_dropout=True) == sorted(
    4 * [(BATCH, False)] + [(2 * BATCH, True)]
  )


def test_only_what_is_asked_for_is_computed():
  """Unneeded unconditional branches, auxiliaries and features are skipped."""
  once = (BATCH, False)
  assert passes(**NO_GAN, guidance_scale=1.0) == 3 * [once]
  assert passes(**{'divergence.weight': 0.0}) == 3 * [once]


# One temperature.


def test_a_low_temperature_makes_soft_paths_and_fakes_hard():
  """At T -> 0 all fakes are the hard ones, and the student is one-hot.

  Gumbel's are not: its draws ignore the temperature.
  """
  metrics = {}
  for name, fakes, relaxation in (
    ('soft', 'soft', 'soft'),
    ('hard', 'hard', 'hard'),
    ('sampled', 'soft', 'sampled'),
    ('reinforce', 'soft', 'reinforce'),
  ):
    changes = {
      'temperature': 1e-4,
      'gan.temperature': None,
      'gan.fakes': fakes,
      'gan.relaxation': relaxation,
    }
    s = setting('maskgit', **changes)
    _, metrics[name] = s.run(s.start())
  assert metrics['soft']['student/max_probability'] > 0.999
  assert metrics['soft']['student/entropy'] < 1e-2
  for name in ('gan/discriminator_loss', 'gan/generator_loss'):
    losses = [metrics[way][name] for way in metrics]
    np.testing.assert_allclose(losses, losses[0], rtol=1e-4)


def test_a_term_may_have_its_own_temperature():
  own = setting('maskgit', **{'gan.temperature': 0.5})
  of_stage = setting('maskgit', **{'temperature': 0.5, 'gan.temperature': None})
  losses = [s.run(s.start())[1]['gan/generator_loss'] for s in (own, of_stage)]
  np.testing.assert_allclose(*losses, rtol=1e-5)


def test_every_step_draws_its_mask_ratio_once():
  """The same for the student, the auxiliary's fresh sample and all parts."""
  changes = {'init.max_mask_ratio': 0.9, 'accumulation': 3}
  s = Setting('maskgit', **changes, **{'auxiliary.fresh_sample': True})
  found = []
  draw = masking.initial_tokens

  def record(key, *, mask_ratio, **sizes):
    jax.debug.callback(lambda x: found.append(float(x)), mask_ratio)
    return draw(key, mask_ratio=mask_ratio, **sizes)

  with mock.patch.object(masking, 'initial_tokens', record):
    step = quick_jit(s.distiller.step)
    for index in (LATE, LATE + 1):
      state = s.start(index)
      step(state, s.batch, Frozen(s.teacher), jax.random.key(0))
      jax.effects_barrier()
  assert len(found) == 2 * 6
  assert len(set(found[:6])) == len(set(found[6:])) == 1
  assert found[0] != found[6]
  assert all(0.5 <= ratio < 0.9 for ratio in found)


def test_the_noise_ramp_reads_the_step():
  """At step 0 there is no noise, and at the end that of a fixed scale."""
  ramp = {'init.noise_scale': 0.5, 'init.noise_ramp': 'linear'}
  entropy = {}
  for changes in ({}, ramp, {'init.noise_scale': 0.5}):
    s = setting('maskgit', **changes)
    for step in (0, LATE):
      entropy[len(changes), step] = float(
        s.run(s.start(step))[1]['student/entropy']
      )
  clean, ramped, fixed = ([entropy[n, x] for x in (0, LATE)] for n in (0, 2, 1))
  assert ramped[0] == pytest.approx(clean[0], rel=1e-6)
  assert ramped[1] == pytest.approx(fixed[1], rel=1e-6)
  assert abs(clean[1] - fixed[1]) > 2e-5
