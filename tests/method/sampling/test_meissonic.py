"""Meissonic's plan: official figures, and what sets it apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.method import sampling

LENGTH, CODES = 6, 4


def test_official_figures():
  plan = sampling.meissonic_plan(48, 4096)
  # Half of them but one: the official cosine is float32.
  assert plan.masked[[0, 31, 47]].tolist() == [4093, 2047, 0]
  np.testing.assert_array_equal(plan.guidance_scale, 9)
  np.testing.assert_array_equal(plan.temperature, 1)
  np.testing.assert_array_equal(plan.token_noise_weight, 1)
  np.testing.assert_allclose(plan.noise_weight[[0, -1]], [2, 0])


def test_one_temperature_ends_near_zero():
  plan = sampling.meissonic_plan(5, 9, choice_temperature=1.5)
  np.testing.assert_allclose(plan.noise_weight[[0, -1]], [1.5, 0.01])
  # A single step has the first one, as torch's linspace does.
  plan = sampling.meissonic_plan(1, 9, choice_temperature=1.5)
  np.testing.assert_array_equal(plan.noise_weight, 1.5)


def test_samples_may_start_from_different_numbers():
  masked = np.array([9, 5, 1, 0])
  plan = sampling.meissonic_plan(4, 9, masked=masked, schedule='linear')
  assert plan.masked.tolist() == [
    *([6, 4, 1, 1], [4, 3, 1, 1], [2, 2, 1, 1], [0, 0, 0, 0])
  ]
  whole = sampling.meissonic_plan(4, 9, schedule='linear')
  np.testing.assert_array_equal(whole.masked, plan.masked[:, 0])
  half = sampling.meissonic_plan(4, 9, schedule='linear', start_share=0.5)
  assert half.masked.tolist() == [3, 2, 1, 0]


def test_where_nothing_is_masked_the_lowest_noise_is_drawn_again():
  """As officially: known tokens compare by their noise alone."""
  start = jnp.arange(LENGTH)[None, :, None] % CODES
  plan = sampling.meissonic_plan(2, LENGTH, masked=np.array([0]))
  choices = jnp.array([3.0, 1, -2, 5, 0, 2])[None, :, None]
  peak = jnp.zeros((1, LENGTH, 1, CODES)).at[..., 3].set(50.0)
  decoding = sampling.decode(
    lambda *_: peak,
    plan,
    start,
    lambda _: (jnp.zeros(peak.shape), choices),
    num_codes=CODES,
    mask_id=CODES,
  )
  masked = np.asarray(decoding.steps.masked[0, 0, :, 0])
  np.testing.assert_array_equal(np.flatnonzero(masked), [2])
  expected = np.array(start[0, :, 0])
  expected[2] = 3
  np.testing.assert_array_equal(decoding.tokens[0, :, 0], expected)


def test_the_network_is_given_the_steps_still_to_come():
  plan = sampling.meissonic_plan(64, 4096)
  np.testing.assert_array_equal(plan.time, np.arange(63, -1, -1))
  assert sampling.meissonic_plan(64, 4096, official_times=False).time is None

  tokens = sampling.decode(
    lambda tokens, _, time: (
      50
      * jax.nn.one_hot(jnp.broadcast_to(time.astype(int), tokens.shape), CODES)
    ),
    sampling.meissonic_plan(CODES, LENGTH),
    jnp.full((1, LENGTH, 1), CODES),
    lambda _: (jnp.zeros((1, LENGTH, 1, CODES)), jnp.zeros((1, LENGTH, 1))),
    num_codes=CODES,
    mask_id=CODES,
  ).steps.sampled
  assert tokens[:, 0, :, 0].tolist() == [[t] * LENGTH for t in (3, 2, 1, 0)]


def test_it_is_found_by_its_name():
  seen = []

  def logits_fn(tokens, scale, _):
    seen.append(tokens.shape)
    return scale * jnp.zeros((*tokens.shape, CODES))

  tokens = sampling.multi_step_sample(
    sampling.image_keys(0, 2),
    logits_fn,
    shape=(LENGTH, 1),
    num_codes=CODES,
    mask_id=CODES,
    steps=3,
    plan='meissonic',
    guidance_scale=4.0,
    choice_temperature=(1.0, 0.0),
  )
  assert tokens.shape == (2, LENGTH, 1)
  assert tokens.max() < CODES
  assert set(seen) == {(2, LENGTH, 1)}


def test_impossible_plans_are_refused():
  with pytest.raises(ValueError, match="'warm' is unknown"):
    sampling.meissonic_plan(4, 9, schedule='warm')
  with pytest.raises(ValueError, match='at least 1 step, got 0'):
    sampling.meissonic_plan(0, 9)
