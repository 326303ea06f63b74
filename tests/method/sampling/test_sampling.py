import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.method import sampling
from tests.golden.weights import load

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden'
KEY = jax.random.key(0)
SHAPE = (3, 4, 2)  # B, L, G
ENTRIES = 8


# Compiling takes longer than running: spare it LLVM's costly passes.
quick_jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


def sample(logits_fn, *, shape=SHAPE, num_codes=ENTRIES + 1, steps, **options):
  """Compiled `multi_step_sample` whose mask is the id after the codes."""
  run = lambda keys: sampling.multi_step_sample(
    keys,
    logits_fn,
    shape=shape[1:],
    num_codes=num_codes,
    mask_id=num_codes,
    steps=steps,
    **options,
  )
  return np.asarray(quick_jit(run)(sampling.image_keys(0, shape[0])))


def certain(tokens, num_codes=ENTRIES + 1):
  """Logits that leave no choice but `tokens`."""
  return 1e4 * jax.nn.one_hot(tokens, num_codes)


def count_masks(tokens, *_):
  """Every entry says how many masks its sample had when it was drawn."""
  masks = (tokens == ENTRIES + 1).sum((1, 2), keepdims=True)
  return certain(jnp.broadcast_to(masks, tokens.shape))


def within(frequency, p, draws):
  """Whether frequencies agree with p to 5 standard deviations."""
  return (np.abs(frequency - p) < 5 * (p * (1 - p) / draws) ** 0.5).all()


def test_unmask_counts_are_the_official_ones():
  meta, _, arrays = load(GOLDEN, 'class_schedules')
  for schedule, steps, side in meta['config']['dimo_adap']:
    np.testing.assert_array_equal(
      sampling.unmask_counts(schedule, steps, side * side),
      arrays[f'dimo_adap_{schedule}_{steps}_{side}'],
      err_msg=f'{schedule} {steps} {side}',
    )
  np.testing.assert_array_equal(
    sampling.unmask_counts('arccos', 8, 256), [1, 18, 26, 32, 38, 43, 48, 50]
  )


@pytest.mark.parametrize(
  'schedule', ['root', 'linear', 'square', 'cosine', 'arccos']
)
def test_unmask_counts_are_positive_and_complete(schedule):
  for entries in (1, 9, 64):
    for steps in range(1, entries + 1):
      counts = sampling.unmask_counts(schedule, steps, entries)
      assert len(counts) == steps
      assert counts.min() >= 1
      assert counts.sum() == entries


def test_impossible_schedules_are_refused():
  with pytest.raises(ValueError, match='10 sampling steps for 9 entries'):
    sampling.unmask_counts('arccos', 10, 9)
  with pytest.raises(ValueError, match='0 sampling steps for 9 entries'):
    sampling.unmask_counts('arccos', 0, 9)
  with pytest.raises(ValueError, match=r"'log' is unknown.*arccos"):
    sampling.unmask_counts('log', 3, 9)
  with pytest.raises(ValueError, match=r"'halton' is unknown.*random"):
    sample(count_masks, steps=2, order='halton')
  with pytest.raises(ValueError, match=r"'power' is unknown.*cosine"):
    sample(count_masks, steps=2, guidance_schedule='power')


def test_guidance_ramps():
  scales = sampling.guidance_scales
  np.testing.assert_array_equal(scales('constant', 3.0, 4), [3, 3, 3, 3])
  # MaskGit: (1 + w_k) c - w_k u with w_k = w k / (S - 1).
  np.testing.assert_allclose(scales('linear', 4.0, 4), [1, 2, 3, 4])
  # MaskBit: c + s_k (c - u) with s_k = s (1 - cos(pi k / S)) / 2.
  np.testing.assert_allclose(
    scales('cosine', 3.0, 4), [1, 2 - 0.5**0.5, 2, 2 + 0.5**0.5], rtol=1e-6
  )


def test_a_single_step_has_full_guidance():
  for schedule in sampling.GUIDANCE_SCHEDULES:
    assert sampling.guidance_scales(schedule, 3.0, 1) == 3


@pytest.mark.parametrize(
  ('order', 'steps'),
  [('confidence', 3), ('random', 3), ('confidence', 1), ('random', 8)],
)
def test_every_step_reveals_exactly_its_count(order, steps):
  tokens = sample(count_masks, steps=steps, order=order)
  counts = sampling.unmask_counts('arccos', steps, ENTRIES)
  before = ENTRIES - np.concatenate([[0], np.cumsum(counts)[:-1]])
  expected = np.sort(np.repeat(before, counts))
  for row in tokens.reshape(SHAPE[0], -1):
    np.testing.assert_array_equal(np.sort(row), expected)


def test_certain_logits_give_their_tokens():
  target = np.random.default_rng(0).integers(0, ENTRIES, SHAPE)
  tokens = sample(lambda *_: certain(target), steps=4)
  assert tokens.dtype == np.int32
  np.testing.assert_array_equal(tokens, target)


def test_revealed_tokens_stay():
  """The model sees what it has revealed and cannot change it any more."""

  def change_its_mind(tokens, *_):
    masked = tokens == ENTRIES + 1
    first = masked.all((1, 2), keepdims=True)
    return certain(jnp.broadcast_to(jnp.where(first, 1, 2), tokens.shape))

  tokens = sample(change_its_mind, steps=4)
  revealed_first = sampling.unmask_counts('arccos', 4, ENTRIES)[0]
  np.testing.assert_array_equal((tokens == 1).sum((1, 2)), revealed_first)
  np.testing.assert_array_equal(
    (tokens != 1).sum((1, 2)), (tokens == 2).sum((1, 2))
  )


def test_a_logit_for_the_mask_is_never_sampled():
  logits = jnp.zeros((*SHAPE, 5)).at[..., 4].set(1e4)
  tokens = sample(lambda *_: logits, num_codes=4, steps=3)
  assert tokens.max() < 4


def test_each_step_runs_with_its_guidance_scale():
  tell_scale = lambda tokens, scale, _: certain(
    jnp.full(tokens.shape, jnp.round(scale).astype(jnp.int32))
  )
  tokens = sample(tell_scale, steps=4, guidance_scale=4.0)
  counts = sampling.unmask_counts('arccos', 4, ENTRIES)
  for row in tokens.reshape(SHAPE[0], -1):
    np.testing.assert_array_equal(np.bincount(row)[1:], counts)


def factorised(seed, shape, num_codes):
  """logits_fn of independent entries, and their probabilities [L, G, V]."""
  rng = np.random.default_rng(seed)
  z = rng.normal(size=(*shape[1:], num_codes)).astype(np.float32)
  p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
  return lambda *_: jnp.broadcast_to(z, (*shape, num_codes)), p


def test_random_order_samples_independent_entries_exactly():
  shape = (20_000, 2, 2)
  logits_fn, p = factorised(0, shape, 3)
  tokens = sample(logits_fn, shape=shape, num_codes=3, steps=3, order='random')
  one_hot = np.eye(3)[tokens]
  assert within(one_hot.mean(0), p, shape[0])
  pair = np.einsum('bv,bw->vw', one_hot[:, 0, 0], one_hot[:, 1, 1]) / shape[0]
  assert within(pair, np.outer(p[0, 0], p[1, 1]), shape[0])


def test_temperature_divides_the_logits():
  shape = (20_000, 1, 1)
  logits_fn, p = factorised(1, shape, 3)
  tokens = sample(logits_fn, shape=shape, num_codes=3, steps=1, temperature=0.5)
  sharp = p**2 / (p**2).sum(-1, keepdims=True)
  assert within(np.eye(3)[tokens].mean(0), sharp, shape[0])


def test_confidence_prefers_probable_tokens():
  shape = (2000, 4, 2)
  logits_fn, p = factorised(0, shape, 3)

  def mean_log_p(**options):
    tokens = sample(logits_fn, shape=shape, num_codes=3, steps=8, **options)
    return np.log(np.take_along_axis(p[None], tokens[..., None], -1)).mean()

  unbiased = (p * np.log(p)).sum(-1).mean()
  assert abs(mean_log_p(order='random') - unbiased) < 0.05
  assert mean_log_p(choice_temperature=0.0) > unbiased + 0.15


def shrinking_support(choices, batch, steps):
  """logits_fn whose entry l is uniform over choices[l] codes, step by step.

  Whatever is drawn, the confidence of entry l is -log choices[l]; token //
  max(choices) is the number of masks at the time of the draw.
  """
  width, entries = max(choices), len(choices)
  num_codes = width * (entries + 1)
  code = np.arange(num_codes)

  def logits_fn(tokens, *_):
    masks = (tokens == num_codes).sum(1, keepdims=True)[..., None]
    inside = (code // width == masks) & (
      code % width < np.array(choices)[:, None, None]
    )
    return jnp.where(inside, 0.0, -1e4)

  def revealed_at(**options):
    tokens = sample(
      logits_fn,
      shape=(batch, entries, 1),
      num_codes=num_codes,
      steps=steps,
      **options,
    )
    return entries - tokens[..., 0] // width

  return revealed_at


def test_the_most_confident_entries_are_revealed_first():
  revealed_at = shrinking_support([3, 1, 4, 2], batch=16, steps=4)
  order = revealed_at(choice_temperature=0.0)
  np.testing.assert_array_equal(order, np.tile([2, 0, 3, 1], (16, 1)))


@pytest.mark.parametrize(
  'options', [{'order': 'random'}, {'choice_temperature': 1e6}], ids=str
)
def test_random_order_ignores_the_confidence(options):
  batch = 4000
  revealed_at = shrinking_support([3, 1, 4, 2], batch=batch, steps=4)
  first = np.eye(4)[revealed_at(**options)][..., 0].mean(0)
  assert within(first, 1 / 4, batch)


def test_noise_on_the_confidence_is_annealed():
  """With Gumbel noise times T, entries win by softmax(confidence / T)."""
  batch, choices = 8000, np.array([4, 1, 2])
  revealed_at = shrinking_support(choices, batch=batch, steps=3)
  order = revealed_at(choice_temperature=2.0)
  win = choices ** (-1 / 2)
  first = (order == 0).mean(0)
  assert within(first, win / win.sum(), batch)
  # T has halved at the second of three steps.
  rest = order[order[:, 2] == 0]
  win = 1 / choices[:2]
  assert within((rest[:, 1] == 1).mean(), win[1] / win.sum(), len(rest))


def test_sample_tokens_follows_the_softmax():
  n = 20_000
  z = jnp.array([0.0, 1.0, -1.0])
  tokens = sampling.sample_tokens(KEY, jnp.broadcast_to(z, (n, 1, 1, 3)))
  assert tokens.shape == (n, 1, 1)
  assert tokens.dtype == jnp.int32
  p = np.asarray(jax.nn.softmax(z))
  assert within(np.bincount(tokens.ravel()) / n, p, n)


def test_sample_tokens_at_zero_temperature_takes_the_best():
  logits = jax.random.normal(KEY, (2, 3, 2, 5))
  np.testing.assert_array_equal(
    sampling.sample_tokens(KEY, logits, temperature=0), logits.argmax(-1)
  )


def test_sample_tokens_at_high_temperature_is_uniform():
  n = 8000
  z = jnp.broadcast_to(jnp.array([3.0, -3.0]), (n, 1, 1, 2))
  tokens = sampling.sample_tokens(KEY, z, temperature=1e4)
  assert within(tokens.mean(), 0.5, n)


@pytest.mark.parametrize(
  ('options', 'kept'),
  [
    ({}, [0, 1, 2, 3]),
    ({'top_k': 1}, [1]),
    ({'top_k': 2}, [1, 3]),
    ({'top_p': 0.5}, [1, 3]),  # 0.4 has not exceeded 0.5 yet
    ({'top_p': 0.1}, [1]),  # the best is always kept
    ({'top_p': 0.75}, [0, 1, 3]),
    ({'top_k': 2, 'top_p': 0.3}, [1]),
  ],
)
def test_top_k_and_top_p_keep_the_best_codes(options, kept):
  p = jnp.array([0.2, 0.4, 0.1, 0.3])
  logits = jnp.broadcast_to(jnp.log(p), (4000, 1, 1, 4))
  tokens = sampling.sample_tokens(KEY, logits, **options)
  np.testing.assert_array_equal(np.unique(tokens), kept)
  expected = np.asarray(p)[kept] / np.asarray(p)[kept].sum()
  frequency = np.bincount(tokens.ravel(), minlength=4)[kept] / 4000
  if len(kept) > 1:
    assert within(frequency, expected, 4000)


def test_top_p_drops_codes_once_it_is_exceeded_not_when_it_is_reached():
  logits = jnp.zeros((100, 1, 1, 2))
  for top_p, kept in ((0.5, [0, 1]), (0.49, [0])):
    tokens = sampling.sample_tokens(KEY, logits, top_p=top_p)
    np.testing.assert_array_equal(np.unique(tokens), kept)
