"""The decoding loop under the plans of the official samplers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.method import sampling
from softdimo_jax.method.sampling import schedules
from tests.golden import parity

BATCH, LENGTH, CODES = 3, 9, 5
KEYS = sampling.image_keys(0, BATCH)

# Compiling takes longer than running: spare it LLVM's costly passes.
quick_jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


@pytest.mark.parametrize(
  'name',
  [
    'maskgit_sampler',
    'maskbit_sampler',
    'maskgen_sampler',
    'meissonic_scheduler',
  ],
)
def test_parity(name):
  parity.check(name)


def decode(plan, *, logits_fn=None, start=None, noise=None, **options):
  """Compiled `decode` of BATCH x LENGTH tokens; the mask is CODES."""
  shape = (BATCH, LENGTH, 1)
  options = {'num_codes': CODES} | options
  codes = options['num_codes']
  logits_fn = logits_fn or (lambda *_: jnp.zeros((*shape, CODES + 1)))
  start = jnp.full(shape, CODES) if start is None else start
  noise = noise or sampling.gumbel_noise(KEYS, shape[1:], codes)
  run = lambda: sampling.decode(
    logits_fn, plan, start, noise, mask_id=CODES, **options
  )
  return jax.tree.map(np.asarray, quick_jit(run)())


def masks_left(steps):
  return steps.masked.sum((2, 3))


PLANS = {
  'maskgit': sampling.maskgit_plan(4, LENGTH),
  'warm_up': sampling.maskgit_plan(4, LENGTH, order='warm_up'),
  'maskbit': sampling.maskbit_plan(4, LENGTH),
  'maskgen': sampling.maskgen_plan(4, LENGTH),
  'meissonic': sampling.meissonic_plan(4, LENGTH),
  'google': sampling.google_plan(4, LENGTH),
  'halton': sampling.halton_plan(4, LENGTH),
}


@pytest.mark.parametrize('name', PLANS)
def test_as_many_entries_stay_masked_as_the_plan_says(name):
  plan = PLANS[name]
  decoding = decode(plan)
  np.testing.assert_array_equal(
    masks_left(decoding.steps), np.repeat(plan.masked[:, None], BATCH, 1)
  )
  assert decoding.tokens.max() < CODES
  np.testing.assert_array_equal(decoding.tokens, decoding.steps.predicted[-1])


@pytest.mark.parametrize('name', PLANS)
def test_known_tokens_are_kept_and_never_masked_again(name):
  steps = decode(PLANS[name]).steps
  known = ~steps.masked
  assert (known[1:] >= known[:-1]).all()
  kept = steps.predicted[1:] == steps.predicted[:-1]
  assert kept[known[:-1]].all()
  # Fresh samples are drawn everywhere all the same.
  assert (steps.sampled != steps.predicted).any()


def test_tokens_of_the_start_are_kept():
  start = jnp.full((BATCH, LENGTH, 1), CODES).at[0, :4].set(2).at[2].set(1)
  masked = np.array([5, 9, 0])
  decoding = decode(sampling.google_plan(4, masked), start=start)
  assert (decoding.tokens[0, :4] == 2).all()
  assert (decoding.tokens[2] == 1).all()
  left = masks_left(decoding.steps)
  assert (left[:, 2] == 0).all()
  assert (left[:, 0] < left[:, 1]).any()
  assert (left[:, :2] >= 1).all()  # the last prediction is the answer


def test_given_noise_decides():
  """Arg max of log p plus noise; the entries of highest score are revealed."""
  rng = np.random.default_rng(0)
  plan = sampling.maskgit_plan(3, LENGTH, choice_temperature=1e3)
  tokens = rng.normal(size=(3, BATCH, LENGTH, 1, CODES)).astype(np.float32)
  choices = rng.normal(size=(3, BATCH, LENGTH, 1)).astype(np.float32)
  given = lambda step: (jnp.asarray(tokens)[step], jnp.asarray(choices)[step])
  steps = decode(plan, noise=given).steps
  np.testing.assert_array_equal(steps.sampled, tokens.argmax(-1))
  first = choices[0, :, :, 0].argsort(-1)[:, : plan.masked[0]]
  for row, lowest in zip(steps.masked[0, :, :, 0], first, strict=True):
    np.testing.assert_array_equal(np.flatnonzero(row), np.sort(lowest))


def test_a_sampled_mask_counts_as_known_and_stays():
  """The official MaskGit samples its logit for the mask."""

  def always_mask(tokens, *_):
    return 1e4 * jax.nn.one_hot(jnp.full(tokens.shape, CODES), CODES + 1)

  plan = sampling.maskgit_plan(3, LENGTH)
  decoding = decode(plan, logits_fn=always_mask, num_codes=CODES + 1)
  assert (decoding.tokens == CODES).all()
  assert (masks_left(decoding.steps)[-1] == 0).all()
  tokens = sampling.multi_step_sample(
    KEYS[:1],
    always_mask,
    shape=(LENGTH, 1),
    num_codes=CODES + 1,
    mask_id=CODES,
    steps=3,
  )
  assert (tokens == CODES - 1).all()


def test_top_k_samples_among_the_best():
  logits = jnp.broadcast_to(
    jnp.arange(CODES + 1.0) / 10, (BATCH, LENGTH, 1, CODES + 1)
  )
  plan = sampling.maskbit_plan(5, LENGTH)
  decoding = decode(plan, logits_fn=lambda *_: logits, top_k=2)
  assert set(np.unique(decoding.steps.sampled)) == {CODES - 2, CODES - 1}


def test_halton_reveals_its_order():
  plan = sampling.halton_plan(3, LENGTH)
  order = schedules.halton_order(3)
  place = order[:, 0] * 3 + order[:, 1]
  shift = np.array([0, 2, 8])
  priority = sampling.halton_priority(3, shift=shift)
  masked = decode(plan, priority=priority).steps.masked[..., 0]
  for step, left in enumerate(plan.masked):
    for sample, roll in enumerate(shift):
      revealed = np.roll(place, roll)[: LENGTH - left]
      assert set(np.flatnonzero(~masked[step, sample])) == set(revealed)


def test_halton_reveals_the_groups_of_a_position_together():
  priority = np.asarray(sampling.halton_priority(4, groups=2))
  order = np.argsort(-priority.ravel())
  assert (order[::2] // 2 == order[1::2] // 2).all()
  assert len(set(order)) == 32


@pytest.mark.parametrize('side', [1, 2, 7, 12])
def test_halton_order_visits_every_cell_once(side):
  order = schedules.halton_order(side)
  assert len({tuple(cell) for cell in order}) == len(order) == side**2
  assert order.min() == 0
  assert order.max() == side - 1


def test_warm_up_is_random_twice():
  plan = PLANS['warm_up']
  np.testing.assert_array_equal(plan.noise_weight, [1, 1, 0, 0])
  np.testing.assert_array_equal(plan.confidence_weight, [0, 0, 1, 1])


@pytest.mark.parametrize('schedule', schedules.SCHEDULES)
def test_maskbit_always_reveals_something(schedule):
  counts = schedules.maskbit_counts(schedule, 6, 64)
  assert (np.diff(np.append(64, counts)) < 0).all()
  assert counts[-1] == 1  # the last prediction is the answer


def test_maskbit_starts_over_when_one_entry_is_left():
  """The official threshold wraps around; many steps for few entries do it."""
  counts = schedules.maskbit_counts('linear', 8, 4)
  assert counts.tolist() == [3, 2, 1, 4, 1, 4, 1, 4]
  assert schedules.maskbit_counts('arccos', 64, 512).min() == 1
  assert (np.diff(schedules.maskbit_counts('arccos', 64, 512)) < 0).all()


def test_maskbit_anneals_its_temperature():
  plan = sampling.maskbit_plan(4, LENGTH, anneal_temperature=True)
  np.testing.assert_allclose(plan.temperature, [1.1, 0.9, 0.7, 0.5], rtol=1e-6)
  np.testing.assert_allclose(
    plan.noise_weight, 4.5 * np.array([0.75, 0.5, 0.25, 0]), rtol=1e-6
  )


def test_googles_later_start_is_the_end_of_the_plan():
  whole = sampling.google_plan(6, 64)
  late = sampling.google_plan(6, 64, first_step=2)
  assert late.steps == 4
  np.testing.assert_array_equal(late.masked, whole.masked[2:])
  np.testing.assert_array_equal(late.noise_weight, whole.noise_weight[2:])


def test_cosine_guidance_has_a_power():
  scales = schedules.guidance_scales('cosine', 3.0, 4, power=2.0)
  ramp = (1 - np.cos(np.pi * (np.arange(4) / 4) ** 2)) / 2
  np.testing.assert_allclose(scales, 1 + 2 * ramp, rtol=1e-6)
  open_linear = schedules.guidance_scales('open_linear', 5.0, 4)
  np.testing.assert_allclose(open_linear, [1, 2, 3, 4])


@pytest.mark.parametrize('schedule', ['pow', 'powx', 'root'])
def test_unknown_google_schedules_are_refused(schedule):
  with pytest.raises(ValueError, match=rf"'{schedule}' is unknown.*powX"):
    sampling.google_plan(4, 9, schedule=schedule)


def test_linspace_is_counted_from_the_nearer_end():
  third = np.float32(1) / np.float32(3)
  np.testing.assert_array_equal(
    schedules.linspace(0, 1, 4),
    np.array([0, third, 1 - third, 1], np.float32),
  )
