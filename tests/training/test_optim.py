import functools
import pathlib

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from softdimo_jax.training import optim
from softdimo_jax.training.ema import ema_rate
from tests.golden.weights import load
from tests.training.plain_distillation import OPTIMIZER

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
STEPS = 30
PARAMS = {'a': jnp.array([1.0, -2.0]), 'b': {'c': jnp.array([[0.5]])}}
GRADIENT = {'a': jnp.array([0.3, -4.0]), 'b': {'c': jnp.array([[2.0]])}}


def config(**changes):
  values = {'learning_rate': 0.1, 'final_ratio': 0.0, **changes}
  return ml_collections.ConfigDict(OPTIMIZER | values)


def rates(steps, **changes):
  schedule = optim.learning_rate(config(**changes), STEPS)
  return np.array([schedule(step) for step in steps])


def test_warm_up_starts_at_zero_and_is_linear():
  np.testing.assert_allclose(
    rates([0, 1, 5, 10, 11, 29], warmup_steps=10),
    [0, 0.01, 0.05, 0.1, 0.1, 0.1],
    rtol=1e-6,
  )


def test_without_warm_up_the_first_rate_is_the_peak():
  np.testing.assert_allclose(rates([0, 29]), 0.1, rtol=1e-6)


@pytest.mark.parametrize('decay', ['cosine', 'linear'])
def test_decays_run_from_the_peak_to_their_final_ratio(decay):
  options = {'warmup_steps': 10, 'decay': decay, 'final_ratio': 0.2}
  values = rates(range(STEPS + 1), **options)
  # Halfway, both are at the mean of peak and end.
  np.testing.assert_allclose(values[[10, 20, 30]], [0.1, 0.06, 0.02], rtol=1e-5)
  assert (np.diff(values[10:]) < 0).all()


def test_cosine_is_maskbits_schedule():
  meta, _, arrays = load(GOLDEN, 'class_schedules')
  official = meta['config']['lr']
  schedule = optim.learning_rate(
    config(
      learning_rate=official['base'],
      warmup_steps=official['warmup'],
      decay='cosine',
      final_ratio=official['min'],
    ),
    official['total'],
  )
  ours = np.array([schedule(step) for step in arrays['steps']])
  np.testing.assert_allclose(
    ours / official['base'], arrays['maskbit_lr_factor'], rtol=1e-4, atol=1e-7
  )


def test_unknown_decay_is_refused():
  with pytest.raises(ValueError, match=r"'exponential' is unknown.*cosine"):
    optim.learning_rate(config(decay='exponential'), STEPS)


def test_ema_rate_is_the_official_one():
  _, _, arrays = load(GOLDEN, 'class_schedules')
  np.testing.assert_allclose(
    ema_rate(jnp.asarray(arrays['steps']), 0.9999),
    arrays['dimo_ema_rate'],
    rtol=1e-6,
  )


def make(*, ema=True, **changes):
  tx = optim.optimizer(config(**changes), STEPS)
  step = jax.jit(functools.partial(optim.update, tx=tx, ema_decay=0.9))
  return optim.create_role(PARAMS, tx, ema=ema), step


def test_the_first_moment_may_take_half_the_memory():
  role, update = make(moment_dtype='bfloat16')
  after, _ = update(role, GRADIENT, step=jnp.int32(0))
  adam = after.opt_state
  for moment, dtype in ((adam.mu, 'bfloat16'), (adam.nu, 'float32')):
    assert {leaf.dtype.name for leaf in jax.tree.leaves(moment)} == {dtype}
  exact, _ = make()[1](make()[0], GRADIENT, step=jnp.int32(0))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=5e-3),
    after.params,
    exact.params,
  )


def test_first_adam_step_has_the_size_of_the_learning_rate():
  role, update = make()
  after, metrics = update(role, GRADIENT, step=jnp.int32(0))
  jax.tree.map(
    lambda old, new, g: np.testing.assert_allclose(
      new, old - 0.1 * np.sign(g), rtol=1e-5
    ),
    PARAMS,
    after.params,
    GRADIENT,
  )
  norm = np.sqrt(0.3**2 + 4.0**2 + 2.0**2)
  np.testing.assert_allclose(metrics['gradient_norm'], norm, rtol=1e-6)


def test_first_update_of_a_warm_up_changes_nothing_the_second_does():
  role, update = make(warmup_steps=10)
  role, _ = update(role, GRADIENT, step=jnp.int32(0))
  jax.tree.map(np.testing.assert_array_equal, role.params, PARAMS)
  role, _ = update(role, GRADIENT, step=jnp.int32(1))
  np.testing.assert_allclose(
    role.params['a'], PARAMS['a'] - 0.01 * np.sign(GRADIENT['a']), rtol=1e-4
  )


def test_weight_decay_shrinks_parameters_without_a_gradient():
  role, update = make(weight_decay=0.5)
  zero = jax.tree.map(jnp.zeros_like, PARAMS)
  role, _ = update(role, zero, step=jnp.int32(0))
  np.testing.assert_allclose(role.params['a'], PARAMS['a'] * 0.95, rtol=1e-6)


def first_moment(role):
  """Adam's first moment, from anywhere in the chain."""
  has_moment = lambda state: hasattr(state, 'mu')
  states = jax.tree.leaves(role.opt_state, is_leaf=has_moment)
  return next(state.mu for state in states if has_moment(state))


@pytest.mark.parametrize(
  ('clip_norm', 'factor'), [(0.0, 1), (1.0, 0.2), (9.0, 1)]
)
def test_clip_limits_the_global_norm(clip_norm, factor):
  role, update = make(clip_norm=clip_norm)
  gradient = {'a': jnp.array([3.0, 0.0]), 'b': {'c': jnp.array([[4.0]])}}
  role, metrics = update(role, gradient, step=jnp.int32(0))
  moment = first_moment(role)
  np.testing.assert_allclose(moment['a'], [0.3 * factor, 0], rtol=1e-5)
  np.testing.assert_allclose(moment['b']['c'], 0.4 * factor, rtol=1e-5)
  assert metrics['gradient_norm'] == 5  # before the clip


def test_average_starts_at_the_parameters_and_follows_them():
  role, update = make()
  for step, rate in ((0, 0.1), (1, 2 / 11)):
    before = role.ema
    role, _ = update(role, GRADIENT, step=jnp.int32(step))
    expected = rate * before['a'] + (1 - rate) * role.params['a']
    np.testing.assert_allclose(role.ema['a'], expected, rtol=1e-6)
  before = role.ema
  role, _ = update(role, GRADIENT, step=jnp.int32(10_000))
  expected = 0.9 * before['a'] + 0.1 * role.params['a']
  np.testing.assert_allclose(role.ema['a'], expected, rtol=1e-6)


def test_a_role_without_an_average_gets_none():
  role, update = make(ema=False)
  role, _ = update(role, GRADIENT, step=jnp.int32(0))
  assert role.ema is None


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing_and_is_counted(bad):
  role, update = make(clip_norm=1.0, weight_decay=0.5)
  role, _ = update(role, GRADIENT, step=jnp.int32(0))
  broken = {'a': jnp.array([bad, 1.0]), 'b': GRADIENT['b']}
  after = role
  for count in (1, 2):
    after, metrics = update(after, broken, step=jnp.int32(count))
    jax.tree.map(
      np.testing.assert_array_equal,
      (after.params, after.opt_state, after.ema),
      (role.params, role.opt_state, role.ema),
    )
    assert after.skipped == metrics['skipped'] == count
    assert after.skipped_in_a_row == metrics['skipped_in_a_row'] == count
  after, metrics = update(after, GRADIENT, step=jnp.int32(3))
  assert (after.params['a'] != role.params['a']).all()
  assert metrics['skipped'] == 2
  assert metrics['skipped_in_a_row'] == 0


def test_a_new_role_shares_no_buffer_with_what_it_was_made_from():
  """The state is donated, but its initial parameters must survive."""
  params = jax.tree.map(jnp.copy, PARAMS)
  role = optim.create_role(params, optim.optimizer(config(), STEPS), ema=True)
  for leaf in jax.tree.leaves(role):
    leaf.delete()
  jax.tree.map(np.testing.assert_array_equal, params, PARAMS)


@pytest.mark.parametrize('clip_norm', [0.0, 1.0])
def test_an_update_needs_no_memory_but_the_gradients(clip_norm):
  """The donated state is overwritten without copies."""
  tx = optim.optimizer(config(clip_norm=clip_norm), STEPS)
  shape = jax.ShapeDtypeStruct((256, 256), jnp.float32)
  role = jax.eval_shape(
    lambda params: optim.create_role(params, tx, ema=True),
    dict.fromkeys('abc', shape),
  )

  def step(role, x):
    loss = lambda params: sum(
      jnp.tanh(x @ kernel).sum() for kernel in params.values()
    )
    gradient = jax.grad(loss)(role.params)
    return optim.update(role, gradient, tx, step=jnp.int32(0), ema_decay=0.9)

  x = jax.ShapeDtypeStruct((1, 256), jnp.float32)
  lowered = jax.jit(step, donate_argnums=0).lower(role, x)
  compiled = lowered.compile(
    {'xla_backend_optimization_level': 2, 'xla_cpu_use_fusion_emitters': True}
  )
  gradients = 3 * 4 * 256**2
  temporaries = compiled.memory_analysis().temp_size_in_bytes
  assert temporaries < 1.5 * gradients
