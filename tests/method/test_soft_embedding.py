import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.method import soft_embedding as soft

GROUPS = pytest.mark.parametrize('groups', [1, 2])
KEY = jax.random.key(0)
BATCH, LENGTH, CODES, WIDTH = 2, 5, 6, 4

# One program a call, not one an operation: compiling dominates these tests.
relax = jax.jit(soft.relax, static_argnames=('relaxation', 'temperature'))
soft_embedding = jax.jit(soft.soft_embedding)
hard_embedding = jax.jit(soft.hard_embedding)
soft_masked_embedding = jax.jit(soft.soft_masked_embedding)
concentration = jax.jit(soft.concentration)


def draw(seed, *shape):
  """Normal draws by NumPy: JAX would compile a program for every shape."""
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def draw_probabilities(seed, *shape):
  p = np.exp(2 * draw(seed, *shape))
  return p / p.sum(-1, keepdims=True)


def draw_tokens(groups):
  shape = (BATCH, LENGTH, groups)
  return np.random.default_rng(3).integers(0, CODES, shape)


def one_hot_logits(tokens):
  return 1e4 * np.eye(CODES, dtype=np.float32)[tokens]


@GROUPS
@pytest.mark.parametrize('relaxation', soft.RELAXATIONS)
def test_one_hot_logits_make_soft_and_hard_equal(groups, relaxation):
  table, tokens = draw(1, groups, CODES, WIDTH), draw_tokens(groups)
  p = relax(KEY, one_hot_logits(tokens), relaxation=relaxation)
  np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-6)
  np.testing.assert_allclose(
    soft_embedding(p, table),
    hard_embedding(tokens, table),
    atol=1e-6,
  )


@GROUPS
def test_one_hot_logits_make_masked_soft_and_masked_hard_equal(groups):
  table, tokens = draw(1, groups, CODES + 1, WIDTH), draw_tokens(groups)
  mask = draw(2, *tokens.shape) > 0
  assert 0 < mask.mean() < 1
  np.testing.assert_allclose(
    soft_masked_embedding(relax(KEY, one_hot_logits(tokens)), table, mask),
    hard_embedding(np.where(mask, CODES, tokens), table),
    atol=1e-6,
  )


@GROUPS
def test_soft_embedding_is_the_expectation_of_the_hard_one(groups):
  """Enumerates the codes of all groups of a position."""
  table = draw(1, groups, CODES, WIDTH)
  p = draw_probabilities(2, 1, 1, groups, CODES)
  codes = np.array(list(itertools.product(range(CODES), repeat=groups)))
  rows = hard_embedding(codes[None], table)[0]  # [codes, D]
  # The groups are independent.
  weight = np.take_along_axis(p[0, 0].T, codes, axis=0).prod(-1)
  np.testing.assert_allclose(
    soft_embedding(p, table)[0, 0], weight @ rows, atol=1e-6
  )


def test_half_precision_probabilities_give_float32_embeddings():
  table = draw(1, 1, CODES, WIDTH)
  p = draw_probabilities(2, BATCH, LENGTH, 1, CODES)
  low = soft_embedding(p.astype(jnp.bfloat16), table)
  assert low.dtype == jnp.float32
  np.testing.assert_allclose(low, soft_embedding(p, table), atol=0.05)


@GROUPS
def test_masked_entries_pass_no_gradient(groups):
  table = draw(1, groups, CODES + 1, WIDTH)
  logits = draw(2, BATCH, LENGTH, groups, CODES)
  mask = draw(3, BATCH, LENGTH, groups) > 0

  def loss(logits):
    p = jax.nn.softmax(logits)
    return (soft_masked_embedding(p, table, mask) ** 2).sum()

  gradient = np.asarray(jax.jit(jax.grad(loss))(logits))
  np.testing.assert_array_equal(gradient[mask], 0)
  assert (np.abs(gradient[~mask]).max(-1) > 1e-4).all()


def test_an_empty_mask_changes_nothing():
  table = draw(1, 2, CODES + 1, WIDTH)
  p = draw_probabilities(2, BATCH, LENGTH, 2, CODES)
  mask = np.zeros((BATCH, LENGTH, 2), bool)
  np.testing.assert_allclose(
    soft_masked_embedding(p, table, mask),
    soft_embedding(p, table[:, :-1]),
    atol=1e-6,
  )


def test_gradient_of_the_softmax_vanishes_as_it_becomes_one_hot():
  """dL/dz_k = p_k (E_k - e~) . dL/de~."""
  table, cotangent = draw(1, 1, CODES, WIDTH), draw(2, WIDTH)
  logits = draw(3, 1, 1, 1, CODES)

  def gradient(logits):
    def loss(z):
      return soft_embedding(jax.nn.softmax(z), table)[0, 0] @ cotangent

    return jax.grad(loss)(logits)[0, 0, 0]

  p = jax.nn.softmax(logits[0, 0, 0])
  expected = p * ((table[0] - p @ table[0]) @ cotangent)
  np.testing.assert_allclose(gradient(logits), expected, atol=1e-6)
  assert jnp.abs(gradient(100 * logits)).max() < 1e-6


@pytest.mark.parametrize('relaxation', ['gumbel', 'hard', 'sampled'])
def test_straight_through_is_one_hot_forward_and_softmax_backward(relaxation):
  logits, cotangent = draw(1, 2, 3, 1, CODES), draw(2, 2, 3, 1, CODES)
  noise = 0
  if relaxation == 'gumbel':
    noise = jax.random.gumbel(KEY, logits.shape)
  value, pullback = jax.vjp(
    lambda z: relax(KEY, z, relaxation=relaxation, temperature=0.7), logits
  )
  np.testing.assert_allclose(value.max(-1), 1, atol=1e-6)
  np.testing.assert_allclose(value.min(-1), 0, atol=1e-6)
  np.testing.assert_allclose(value.sum(-1), 1, atol=1e-6)
  _, softmax_pullback = jax.vjp(
    lambda z: jax.nn.softmax((z + noise) / 0.7), logits
  )
  np.testing.assert_allclose(
    pullback(cotangent)[0], softmax_pullback(cotangent)[0], atol=1e-6
  )


def test_hard_relaxation_takes_the_arg_max():
  logits = draw(1, 2, 3, 1, CODES)
  p = relax(KEY, logits, relaxation='hard')
  np.testing.assert_array_equal(p.argmax(-1), logits.argmax(-1))


@pytest.mark.parametrize(
  ('relaxation', 'drawn_at'), [('gumbel', 1.0), ('sampled', 0.3)]
)
def test_draws_follow_the_softmax(relaxation, drawn_at):
  """Within 5 standard deviations; Gumbel's whatever the temperature."""
  n = 20_000
  logits = jnp.array([0.0, 0.3, -0.3, 0.6])
  p = relax(
    KEY,
    jnp.broadcast_to(logits, (n, 1, 1, 4)),
    relaxation=relaxation,
    temperature=0.3,
  )
  expected = jax.nn.softmax(logits / drawn_at)
  deviation = (expected * (1 - expected) / n) ** 0.5
  assert (jnp.abs(p.mean((0, 1, 2)) - expected) < 5 * deviation).all()


def test_temperature_divides_the_logits():
  logits = draw(1, 2, 3, 1, CODES)
  np.testing.assert_allclose(
    relax(KEY, logits, temperature=2.0),
    jax.nn.softmax(logits / 2),
    rtol=1e-6,
  )


def test_only_draws_depend_on_the_key():
  logits = draw(1, 2, 3, 1, CODES)
  for relaxation in soft.RELAXATIONS:
    a, b = (
      relax(jax.random.key(seed), logits, relaxation=relaxation)
      for seed in (1, 2)
    )
    assert bool((a == b).all()) == (relaxation in ('soft', 'hard'))


def test_unknown_relaxation_is_refused():
  with pytest.raises(ValueError, match=r"'straight' is unknown.*gumbel"):
    relax(KEY, jnp.zeros((1, 1, 1, 2)), relaxation='straight')


@GROUPS
def test_concentration_of_one_hot_distributions(groups):
  table = draw(1, groups, CODES, WIDTH)
  p = np.eye(CODES, dtype=np.float32)[draw_tokens(groups)]
  stats = concentration(p, table)
  assert stats.entropy == 0
  assert stats.max_probability == 1
  assert stats.delta_share == 1
  np.testing.assert_allclose(stats.variance, 0, atol=1e-5)


@GROUPS
def test_concentration_of_uniform_distributions(groups):
  table = draw(1, groups, CODES, WIDTH)
  p = np.full((BATCH, LENGTH, groups, CODES), 1 / CODES, np.float32)
  stats = concentration(p, table)
  np.testing.assert_allclose(stats.entropy, np.log(CODES), rtol=1e-5)
  np.testing.assert_allclose(stats.max_probability, 1 / CODES, rtol=1e-6)
  assert stats.delta_share == 0
  np.testing.assert_allclose(stats.variance, table.var(1).sum(), rtol=1e-4)


def test_delta_share_counts_codes_above_a_thousandth():
  delta, other = [0.9995, 0.0005, 0], [0.9985, 0.0015, 0]
  p = np.array([delta, other, delta, delta], np.float32).reshape(1, 4, 1, 3)
  assert concentration(p, np.zeros((1, 3, 2))).delta_share == 0.75


@GROUPS
def test_variance_bounds_the_bias_of_the_soft_path_tightly(groups):
  """|f(e~) - E f(e)| <= L/2 tr Cov(e), an equality for f = L/2 |x|^2."""
  smoothness = 3.0
  f = lambda x: smoothness / 2 * (x**2).sum(-1)
  table = draw(1, groups, CODES, WIDTH)
  p = draw_probabilities(2, 1, 1, groups, CODES)
  codes = np.array(list(itertools.product(range(CODES), repeat=groups)))
  weight = np.take_along_axis(p[0, 0].T, codes, axis=0).prod(-1)
  hard = weight @ f(hard_embedding(codes[None], table)[0])
  bias = hard - f(soft_embedding(p, table)[0, 0])
  bound = smoothness / 2 * concentration(p, table).variance
  np.testing.assert_allclose(bias, bound, rtol=1e-4)


def test_variance_is_of_the_order_of_the_probability_off_the_top():
  """tr Cov <= eps diameter^2 where the top code has 1 - eps."""
  table = draw(1, 1, CODES, WIDTH)
  distances = ((table[0][:, None] - table[0]) ** 2).sum(-1)
  for eps in (1e-1, 1e-2, 1e-3):
    p = np.full(CODES, eps / (CODES - 1), np.float32)
    p[2] = 1 - eps
    variance = concentration(p.reshape(1, 1, 1, -1), table).variance
    assert 0 < variance <= eps * distances.max()
