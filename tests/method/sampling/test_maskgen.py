"""MaskGen's plan: official figures, and what sets it apart."""

import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.method import sampling

LENGTH, CODES = 6, 4


def decode(plan, logits, noise):
  start = jnp.full((1, LENGTH, 1), CODES)
  return sampling.decode(
    lambda *_: logits, plan, start, noise, num_codes=CODES, mask_id=CODES
  )


def test_official_figures():
  plan = sampling.maskgen_plan(16, 128)
  assert plan.masked.tolist() == [
    *(122, 117, 112, 107, 102, 96, 91, 85, 79, 72, 66, 58, 50, 41, 28, 0)
  ]
  scales = plan.guidance_scale[[0, 7, 15]]
  np.testing.assert_allclose(scales, [2.105681, 7.5, 13], rtol=1e-6)
  np.testing.assert_allclose(plan.temperature[[0, 15]], [1.25, 0.5])
  np.testing.assert_array_equal(plan.noise_weight, plan.token_noise_weight)
  np.testing.assert_allclose(plan.noise_weight[[0, 15]], [1.875, 0])
  # s of u + s (c - u) averages 7.8 in the official sampler.
  assert 7.7 < plan.guidance_scale.mean() < 7.9


@pytest.mark.parametrize(
  ('schedule', 'scales'),
  [
    ('constant', [9, 9, 9, 9]),
    ('linear', [3.75, 5.5, 7.25, 9]),
    ('cosine', [3.025126, 5.5, 7.974874, 9]),
    ('flipped_cosine', [4.474874, 2, -0.474874, -1.5]),
  ],
)
def test_guidance_schedules(schedule, scales):
  plan = sampling.maskgen_plan(
    4, 64, guidance_scale=9.0, guidance_schedule=schedule
  )
  np.testing.assert_allclose(plan.guidance_scale, scales, rtol=1e-6, atol=1e-6)


def test_a_power_delays_the_cosine():
  scales = lambda power: (
    sampling.maskgen_plan(8, 64, guidance_power=power).guidance_scale
  )
  assert (scales(3.0)[:-1] < scales(1.0)[:-1]).all()
  assert scales(3.0)[-1] == scales(1.0)[-1] == 13


def test_positions_compare_by_logits_not_by_probabilities():
  """Peaked positions of low logits wait; flat ones of high logits do not."""
  peaked = jnp.array([1.0, -9, -9, -9])
  flat = jnp.full(CODES, 2.0)
  logits = jnp.stack([peaked, flat] * 3)[None, :, None]
  plan = sampling.maskgen_plan(2, LENGTH, choice_temperature=0.0)
  silent = lambda _: (
    jnp.zeros((1, LENGTH, 1, CODES)),
    jnp.zeros((1, LENGTH, 1)),
  )
  masked = np.asarray(decode(plan, logits, silent).steps.masked[0, 0, :, 0])
  assert masked.sum() == plan.masked[0] == 4
  assert masked[[0, 2, 4]].all()


def test_the_last_step_takes_the_likeliest_codes():
  rng = np.random.default_rng(0)
  logits = jnp.asarray(rng.normal(size=(1, LENGTH, 1, CODES)), jnp.float32)
  noise = jnp.asarray(rng.gumbel(size=(3, 1, LENGTH, 1, CODES)), jnp.float32)
  choices = jnp.zeros((1, LENGTH, 1))
  plan = sampling.maskgen_plan(3, LENGTH, choice_temperature=50.0)
  decoding = decode(plan, logits, lambda step: (noise[step], choices))
  steps = decoding.steps
  np.testing.assert_array_equal(steps.sampled[-1], logits.argmax(-1))
  assert (steps.sampled[0] != logits.argmax(-1)).any()
  assert not steps.masked[-1].any()


def test_without_annealing_the_temperature_is_the_noises():
  plan = sampling.maskgen_plan(
    4, 9, anneal_temperature=False, noisy_confidence=False
  )
  np.testing.assert_array_equal(plan.temperature, plan.token_noise_weight)
  np.testing.assert_array_equal(plan.noise_weight, 0)
  # The official division by 0: the first code with a positive logit.
  logits = jnp.tile(jnp.array([-3.0, 0.5, 2, 1]), (1, LENGTH, 1, 1))
  silent = lambda _: (jnp.zeros(logits.shape), jnp.zeros((1, LENGTH, 1)))
  plan = sampling.maskgen_plan(1, LENGTH, anneal_temperature=False)
  assert (decode(plan, logits, silent).tokens == 1).all()


def test_unknown_schedules_are_refused():
  with pytest.raises(ValueError, match="'warm' is unknown"):
    sampling.maskgen_plan(4, 9, schedule='warm')
  with pytest.raises(ValueError, match="'open_linear' is unknown"):
    sampling.maskgen_plan(4, 9, guidance_schedule='open_linear')


def test_the_plan_has_a_name():
  plan = sampling.make_plan(
    'maskgen', 4, 64, guidance_scale=9.0, guidance_schedule='linear'
  )
  assert plan.raw_confidence and plan.guidance_scale[-1] == 9
  with pytest.raises(ValueError, match='maskgen sets its own'):
    sampling.make_plan('maskgen', 4, 64, temperature=0.5)
  with pytest.raises(ValueError, match='guidance_weight'):
    sampling.make_plan('maskgen', 4, 64, guidance_weight=1.0)


def test_halton_orders_squares_only():
  with pytest.raises(ValueError, match='square grid, got 128 positions'):
    sampling.multi_step_sample(
      None, None, shape=(128, 1), num_codes=8, mask_id=8, steps=2,
      plan='halton',
    )  # fmt: skip
