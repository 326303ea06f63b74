"""Meissonic: parity, and properties that fixtures do not cover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.method.soft_embedding import soft_embedding
from softdimo_jax.networks import rotary
from softdimo_jax.networks.generators import meissonic_parts as parts
from softdimo_jax.networks.generators.condition import TextCondition
from softdimo_jax.networks.generators.meissonic import MeissonicTransformer
from tests.golden import parity
from tests.networks import checks
from tests.networks.checks import draw

TINY = MeissonicTransformer(
  vocab_size=8, spare_rows=3, grid=(2, 4), width=16, joint_depth=2,
  single_depth=2, num_heads=2, mlp_width=32, rope_axes=(2, 2, 4),
  text_width=6,
)  # fmt: skip
FLAT = TINY.clone(downsample=False)
TOKENS = jnp.array([[0, 1, 8, 3, 7, 7, 8, 8], [8, 8, 2, 2, 5, 0, 0, 1]])
TOKENS = TOKENS[..., None]


MICRO = jnp.array([[1024.0, 1024, 0, 0, 6], [768, 512, 9, 3, 4.5]])
CONDITION = TextCondition(draw(1, 2, 3, 6), draw(2, 2, 16), MICRO)


def random_variables(module):
  shapes = jax.eval_shape(module.init, jax.random.key(0), TOKENS, CONDITION)
  return jax.tree.map(lambda leaf: 0.3 * draw(5, *leaf.shape), shapes)


@pytest.fixture(scope='module')
def variables():
  return random_variables(TINY)


@pytest.fixture(scope='module')
def logits(variables):
  """(condition) -> logits of TOKENS, compiled once."""
  return jax.jit(lambda condition: TINY.apply(
    variables, TOKENS, condition
  ).logits)  # fmt: skip


@pytest.mark.parametrize(
  'name', ['meissonic_transformer', 'meissonic_transformer_nodown']
)
def test_parity(name):
  parity.check(name)


@pytest.mark.parametrize(('module', 'positions'), [(TINY, 2), (FLAT, 8)])
def test_shapes_and_dtypes_in_bfloat16(module, positions):
  module = module.clone(dtype=jnp.bfloat16, remat='dots')
  output, variables = jax.eval_shape(
    module.init_with_output, jax.random.key(0), TOKENS, CONDITION
  )
  assert module.length == 8
  assert output.logits.shape == (2, 8, 1, 8)
  assert output.logits.dtype == jnp.float32
  assert output.hidden.shape == (module.depth, 2, positions, 16)
  assert output.hidden.dtype == jnp.bfloat16
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))
  table = jax.eval_shape(lambda v: module.apply(v, method='table'), variables)
  assert table.shape == (1, 9, 16)


def test_condition_shapes_are_those_of_one_image():
  shapes = TINY.condition_shape(3)
  for name in ('states', 'pooled', 'micro'):
    expected = getattr(CONDITION, name).shape[1:]
    assert getattr(shapes, name).shape == (1, *expected)
  assert shapes.time is None
  timed = TINY.clone(timestep_mode='ratio').condition_shape(3)
  assert timed.time.shape == (1,)


def test_one_hot_probabilities_match_tokens(variables, logits):
  bound = TINY.bind(variables)
  one_hot = jax.nn.one_hot(TOKENS, 9)
  soft = soft_embedding(one_hot, bound.table())
  np.testing.assert_allclose(soft, bound.embed(TOKENS), rtol=1e-6)
  np.testing.assert_allclose(
    bound.backbone(soft, CONDITION).logits,
    logits(CONDITION),
    rtol=1e-4,
    atol=1e-5,
  )


def test_noise_enters_behind_the_norm_of_the_embeddings(variables, logits):
  bound = TINY.bind(variables)
  features = bound.features(bound.embed(TOKENS))
  assert features.shape == (2, 8, 16)
  output = bound.from_features(features, CONDITION)
  np.testing.assert_allclose(
    output.logits, logits(CONDITION), rtol=1e-4, atol=1e-5
  )
  # The norm cancels a factor of its input, but not of its output.
  scaled = bound.features(2 * bound.embed(TOKENS))
  np.testing.assert_allclose(scaled, features, rtol=1e-4, atol=1e-6)


def test_only_spare_rows_are_dead(variables):
  def loss(params):
    return (TINY.apply({'params': params}, TOKENS, CONDITION).logits ** 3).sum()

  gradients = jax.jit(jax.grad(loss))(variables['params'])
  rows = np.abs(gradients['tok_emb']).max(-1) > 0
  used = np.isin(np.arange(12), TOKENS)
  np.testing.assert_array_equal(rows, used)
  assert not used[9:].any()
  for path, leaf in jax.tree.leaves_with_path(gradients):
    assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)


def test_rematerialisation_changes_nothing(variables):
  checks.rematerialisation_changes_nothing(
    TINY, variables['params'], TOKENS, CONDITION, atol=1e-3
  )


def test_text_and_micro_conditions_affect_their_sample(logits):
  reference = logits(CONDITION)
  for name in ('states', 'pooled', 'micro'):
    array = jnp.asarray(getattr(CONDITION, name)).at[1].add(1.0)
    other = logits(CONDITION.replace(**{name: array}))
    changed = np.abs(other - reference).max((1, 2, 3)) > 1e-4
    np.testing.assert_array_equal(changed, [False, True])


def test_the_time_is_that_of_the_condition_or_zero(variables, logits):
  late = CONDITION.replace(time=jnp.array([0.0, 0.5]))
  changed = np.abs(logits(late) - logits(CONDITION)).max((1, 2, 3)) > 1e-4
  np.testing.assert_array_equal(changed, [False, True])
  module = TINY.clone(timestep_mode='ratio')
  other = module.apply(variables, TOKENS, late).logits
  np.testing.assert_allclose(other, logits(late), atol=1e-5)
  with pytest.raises(ValueError, match='time'):
    module.apply(variables, TOKENS, CONDITION)


@pytest.mark.parametrize('micro', [None, MICRO[:, :4]])
def test_micro_conditions_are_required(variables, micro):
  with pytest.raises(ValueError, match=r'micro \[B, 5\]'):
    TINY.apply(variables, CONDITION.replace(micro=micro), method='modulator')


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'rope_axes': (2, 2, 2)}, '2 heads with 6'),
    ({'grid': (3, 4)}, 'even grid'),
    ({'timestep_mode': 'step'}, "'step' is unknown"),
  ],
)
def test_sizes_that_do_not_fit_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(
      TINY.clone(**options).init, jax.random.key(0), TOKENS, CONDITION
    )


def test_time_features_are_cosines_then_sines(variables):
  features = TINY.apply(variables, jnp.array([0.004]), method='time_features')
  angle = 4 * 10_000.0 ** (-np.arange(128) / 128)
  np.testing.assert_allclose(
    features[0], np.r_[np.cos(angle), np.sin(angle)], atol=1e-6
  )


def test_positions_are_those_of_the_blocks():
  np.testing.assert_array_equal(TINY.positions(), [[0, 0, 0], [0, 0, 1]])
  flat = FLAT.positions(text_length=1)
  assert flat.shape == (9, 3)
  np.testing.assert_array_equal(flat[[0, 1, 5, 8]], [
    [0, 0, 0], [0, 0, 0], [0, 1, 0], [0, 1, 3]
  ])  # fmt: skip


def test_rotated_products_depend_on_distances_only():
  rotation = rotary.tables(np.arange(6)[:, None], (8,))
  query, key = draw(1, 1, 1, 1, 8), draw(2, 1, 1, 1, 8)
  turn = lambda x: rotary.rotate(jnp.tile(x, (1, 6, 1, 1)), rotation)[0, :, 0]
  products = turn(query) @ turn(key).T
  for offset in range(-5, 6):
    diagonal = np.diagonal(products, offset)
    np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-4, atol=1e-5)
  np.testing.assert_allclose(products[0, 0], (query * key).sum(), rtol=1e-5)
  assert np.std(products[0]) > 0.1


def test_parting_undoes_merging():
  x = jnp.arange(2 * 8 * 3.0).reshape(2, 8, 3)  # rows of 4
  merged = parts.merge(x, (2, 4))
  np.testing.assert_array_equal(
    merged[0, 1], x[0, jnp.array([2, 3, 6, 7])].reshape(-1)
  )
  np.testing.assert_array_equal(parts.part(merged, (1, 2)), x)
