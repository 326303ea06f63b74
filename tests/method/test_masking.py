import pathlib
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softdimo_jax.method import masking
from tests.golden.weights import load

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
# Shapes are few, so that hypothesis does not spend its time compiling.
SHAPES = st.sampled_from([(1, 1), (9, 1), (4, 2), (5, 3)])
RATES = st.floats(0, 1, width=32)
FEW = settings(max_examples=15, deadline=None)


@pytest.mark.parametrize('schedule', masking.SCHEDULES)
def test_rates_and_counts_are_the_official_ones(schedule):
  _, _, arrays = load(GOLDEN, 'class_schedules')
  rate = masking.mask_rate(schedule, arrays['ratio'])
  assert rate.dtype == jnp.float32
  np.testing.assert_allclose(
    rate, arrays[f'dimo_ratio_{schedule}'], rtol=1e-6, atol=1e-7
  )
  np.testing.assert_array_equal(
    masking.mask_count(rate, 256), arrays[f'dimo_count256_{schedule}']
  )


@pytest.mark.parametrize(
  ('schedule', 'start', 'middle', 'end'),
  [
    ('arccos', 1.0, 2 / 3, 0.0),
    ('cosine', 1.0, 0.5**0.5, 0.0),
    ('linear', 0.0, 0.5, 1.0),
    ('square', 0.0, 0.25, 1.0),
  ],
)
def test_rate_values(schedule, start, middle, end):
  rate = masking.mask_rate(schedule, jnp.array([0.0, 0.5, 1.0]))
  np.testing.assert_allclose(rate, [start, middle, end], atol=1e-6)


def test_rate_is_clamped():
  u = jnp.linspace(0, 1, 11)
  rate = masking.mask_rate('cosine', u, low=0.02, high=0.98)
  free = masking.mask_rate('cosine', u)
  assert rate.min() == np.float32(0.02)
  assert rate.max() == np.float32(0.98)
  np.testing.assert_array_equal(rate, np.clip(free, 0.02, 0.98))


def test_unknown_schedule_is_refused():
  with pytest.raises(ValueError, match=r"'root' is unknown.*arccos"):
    masking.mask_rate('root', 0.5)


@pytest.mark.parametrize(
  ('rate', 'entries', 'count'),
  [(0.0, 9, 1), (1.0, 9, 9), (0.6, 256, 154), (0.5, 9, 4), (0.01, 9, 1)],
)
def test_mask_count(rate, entries, count):
  assert masking.mask_count(jnp.float32(rate), entries) == count


@FEW
@given(SHAPES, st.lists(RATES, min_size=3, max_size=3), st.integers(0, 2**31))
def test_every_sample_has_its_exact_count(shape, rates, seed):
  length, groups = shape
  count = np.round(np.array(rates) * length * groups).astype(int)
  mask = masking.exact_mask(
    jax.random.key(seed), jnp.array(count), length, groups
  )
  assert mask.shape == (3, length, groups)
  assert mask.dtype == bool
  np.testing.assert_array_equal(mask.sum((1, 2)), count)


def test_count_is_exact_even_if_draws_are_equal():
  with mock.patch('jax.random.uniform', lambda _, shape: jnp.zeros(shape)):
    mask = masking.exact_mask(jax.random.key(0), jnp.array([0, 2, 5]), 5)
  np.testing.assert_array_equal(mask.sum((1, 2)), [0, 2, 5])


def test_all_subsets_are_equally_likely():
  """Inclusion of every entry and every pair, within 5 standard deviations."""
  batch, entries, count = 20_000, 6, 2
  mask = masking.exact_mask(
    jax.random.key(0), jnp.full(batch, count), length=3, groups=2
  )
  flat = np.asarray(mask).reshape(batch, entries).astype(int)
  together = flat.T @ flat / batch
  single = count / entries
  pair = single * (count - 1) / (entries - 1)
  expected = np.full((entries, entries), pair)
  np.fill_diagonal(expected, single)
  deviation = np.sqrt(expected * (1 - expected) / batch)
  assert (np.abs(together - expected) < 5 * deviation).all()


@pytest.mark.parametrize('schedule', masking.SCHEDULES)
def test_remask_writes_the_mask_where_it_says_and_nothing_else(schedule):
  tokens = jax.random.randint(jax.random.key(1), (64, 8, 2), 0, 5)
  masked, mask, rate = masking.remask(
    jax.random.key(2), tokens, 5, schedule=schedule
  )
  np.testing.assert_array_equal(masked, np.where(mask, 5, tokens))
  np.testing.assert_array_equal(
    mask.sum((1, 2)), np.maximum(1, np.round(16 * np.asarray(rate)))
  )
  assert len(np.unique(rate)) > 32  # one time a sample


def test_remask_follows_the_schedule_and_its_clamp():
  tokens = jnp.zeros((4096, 4, 1), jnp.int32)
  remask = lambda **clamp: masking.remask(
    jax.random.key(0), tokens, 5, schedule='arccos', **clamp
  )[2]
  # E[arccos(u)] / (pi / 2) = 2 / pi; the standard deviation is 0.24.
  assert abs(remask().mean() - 2 / np.pi) < 5 * 0.24 / 64
  clamped = remask(low=0.3, high=0.6)
  assert clamped.min() == np.float32(0.3)
  assert clamped.max() == np.float32(0.6)


@FEW
@given(SHAPES, RATES, st.integers(0, 2**31))
def test_initial_tokens_have_an_exact_number_of_masks(shape, ratio, seed):
  length, groups = shape
  tokens = masking.initial_tokens(
    jax.random.key(seed),
    batch=4,
    length=length,
    groups=groups,
    vocab_size=3,
    mask_id=3,
    mask_ratio=ratio,
  )
  assert tokens.shape == (4, length, groups)
  assert tokens.min() >= 0
  count = max(1, round(np.float32(ratio) * (length * groups)))
  np.testing.assert_array_equal((tokens == 3).sum((1, 2)), count)


def test_initial_codes_are_uniform():
  tokens = masking.initial_tokens(
    jax.random.key(0),
    batch=2000,
    length=8,
    groups=2,
    vocab_size=4,
    mask_id=4,
    mask_ratio=0.5,
  )
  assert (tokens == 4).mean() == 0.5
  frequency = np.bincount(np.asarray(tokens).ravel())[:4] / 16_000
  assert (np.abs(frequency - 1 / 4) < 5 * (0.1875 / 16_000) ** 0.5).all()


def test_perturb_is_the_identity_without_noise():
  embeddings = jax.random.normal(jax.random.key(0), (2, 3, 4))
  same = masking.perturb(jax.random.key(1), embeddings, 0.0)
  np.testing.assert_array_equal(same, embeddings)


def test_perturb_forgets_everything_at_full_noise():
  key, shape = jax.random.key(1), (2, 3, 4)
  embeddings = jax.random.normal(jax.random.key(0), shape)
  np.testing.assert_array_equal(
    masking.perturb(key, embeddings, 1.0),
    masking.perturb(key, 7 + 0 * embeddings, 1.0),
  )


@pytest.mark.parametrize('noise_scale', [0.1, 0.3, 0.8])
def test_perturb_preserves_unit_variance_and_shrinks_the_signal(noise_scale):
  n = 100_000
  embeddings = jax.random.normal(jax.random.key(0), (1, n, 1))
  noisy = masking.perturb(jax.random.key(1), embeddings, noise_scale)
  tolerance = 5 * (2 / n) ** 0.5
  assert abs(noisy.var() - 1) < tolerance
  kept = (noisy * embeddings).mean() / (embeddings**2).mean()
  assert abs(kept - (1 - noise_scale**2) ** 0.5) < tolerance


def test_noise_of_perturb_has_its_own_unit():
  """sigma is absolute: it does not scale with the embeddings."""
  noisy = masking.perturb(jax.random.key(0), jnp.zeros((4, 500, 5)), 0.3)
  assert abs(noisy.std() - 0.3) < 5 * 0.3 / 20_000**0.5


def test_the_lowest_scores_are_marked_exactly():
  scores = jnp.array([[3.0, 1.0, 2.0, 1.0], [0.0, 0.0, 0.0, jnp.inf]])
  mask = masking.lowest_mask(scores, jnp.array([3, 2]))
  np.testing.assert_array_equal(
    mask, [[False, True, True, True], [True, True, False, False]]
  )
  assert (masking.lowest_mask(scores, 4)).all()
  assert not masking.lowest_mask(scores, 0).any()


@pytest.mark.parametrize('curve', masking.RAMPS)
def test_noise_ramps_rise_from_zero(curve):
  scale = masking.noise_ramp(curve, jnp.arange(0, 4000, 100), 1000)
  assert scale.dtype == jnp.float32
  assert scale[0] == 0
  assert (jnp.diff(scale) >= 0).all()
  assert 0.97 < scale[-1] <= 1


def test_unknown_ramps_are_refused():
  with pytest.raises(ValueError, match=r"'root' is unknown.*linear"):
    masking.noise_ramp('root', 1, 10)
