"""MaskGen: parity, and properties that fixtures do not cover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.method.soft_embedding import soft_embedding
from softdimo_jax.networks import layers
from softdimo_jax.networks.generators import condition
from softdimo_jax.networks.generators.condition import TextCondition
from softdimo_jax.networks.generators.maskgen import MaskGenTransformer
from tests.golden import parity
from tests.networks import checks
from tests.networks.checks import draw

TINY = MaskGenTransformer(
  vocab_size=8, num_classes=3, length=5, width=16, depth=3, num_heads=2,
  mlp_width=32, text_width=6, micro_width=4,
)  # fmt: skip
TOKENS = jnp.array([[0, 1, 8, 3, 7], [8, 8, 2, 2, 5]])[..., None]


CONDITION = TextCondition(
  draw(1, 2, 4, 6), draw(2, 2, 6), jnp.array([[6.5], [5.0]])
)
NULL = TextCondition(draw(3, 1, 4, 6), draw(4, 1, 6))


@pytest.fixture(scope='module')
def variables():
  shapes = jax.eval_shape(TINY.init, jax.random.key(0), TOKENS, CONDITION)
  return jax.tree.map(lambda leaf: 0.3 * draw(5, *leaf.shape), shapes)


@pytest.mark.parametrize(
  'name', ['maskgen_generator', 'maskgen_generator_plain']
)
def test_parity(name):
  parity.check(name)


@pytest.mark.parametrize('depth', [1, 3])
def test_shapes_and_dtypes_in_bfloat16(depth):
  module = TINY.clone(dtype=jnp.bfloat16, depth=depth, remat='dots')
  output, variables = jax.eval_shape(
    module.init_with_output, jax.random.key(0), TOKENS, CONDITION
  )
  assert output.logits.shape == (2, 5, 1, 8)
  assert output.logits.dtype == jnp.float32
  assert output.hidden.shape == (depth, 2, 5, 16)
  assert output.hidden.dtype == jnp.bfloat16
  assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(variables))
  table = jax.eval_shape(lambda v: module.apply(v, method='table'), variables)
  assert table.shape == (1, 9, 16)


def test_fresh_networks_start_from_unmodulated_ends():
  """Both modulations with two parts are officially initialised to zero."""
  variables = jax.jit(TINY.init)(jax.random.key(0), TOKENS, CONDITION)
  params = variables['params']
  for modulation in (
    params['final_modulation'],
    params['last']['text']['modulation'],
  ):
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(modulation))
  scale = params['layers']['text']['modulation']['dense']['kernel'].std()
  assert 0.018 < scale < 0.022


def test_one_hot_probabilities_match_tokens(variables):
  bound = TINY.bind(variables)
  one_hot = jax.nn.one_hot(TOKENS, 9)
  soft = soft_embedding(one_hot, bound.table())
  np.testing.assert_allclose(soft, bound.embed(TOKENS), rtol=1e-6)
  np.testing.assert_allclose(
    bound.backbone(soft, CONDITION).logits,
    bound(TOKENS, CONDITION).logits,
    rtol=1e-5,
  )


def test_only_declared_parameters_are_dead(variables):
  """Only class rows and the last block's text queries get no gradient."""

  def loss(params):
    output = TINY.apply({'params': params}, TOKENS, CONDITION)
    return (output.logits**3).sum()

  gradients = jax.jit(jax.grad(loss))(variables['params'])
  rows = np.abs(gradients['tok_emb']).max(-1) > 0
  np.testing.assert_array_equal(rows, np.arange(13) <= 8)
  dead = {
    name
    for path, leaf in jax.tree.leaves_with_path(gradients)
    if np.abs(leaf).max() < 1e-6
    # The softmax is invariant to a constant added to all scores.
    and not (name := '/'.join(key.key for key in path)).endswith('key/bias')
  }
  assert dead == {'last/text/query/kernel', 'last/text/query/bias'}


def test_rematerialisation_changes_nothing(variables):
  checks.rematerialisation_changes_nothing(
    TINY, variables['params'], TOKENS, CONDITION, atol=1e-4
  )


def test_the_score_and_the_text_count(variables):
  logits = lambda text: TINY.apply(variables, TOKENS, text).logits
  reference = logits(CONDITION)
  other = CONDITION.replace(micro=CONDITION.micro.at[0].set(4.0))
  changed = np.abs(logits(other) - reference).max((1, 2, 3)) > 1e-3
  np.testing.assert_array_equal(changed, [True, False])
  second = jnp.array([False, True])
  without = logits(condition.dropped(CONDITION, second, NULL))
  changed = np.abs(without - reference).max((1, 2, 3)) > 1e-3
  np.testing.assert_array_equal(changed, [False, True])
  with pytest.raises(ValueError, match='aesthetic score'):
    logits(CONDITION.replace(micro=None))


def test_guidance_pairs_keep_the_score(variables):
  pair = condition.with_null(CONDITION, NULL)
  assert pair.states.shape == (4, 4, 6)
  np.testing.assert_array_equal(pair.states[:2], CONDITION.states)
  np.testing.assert_array_equal(pair.states[2:], np.repeat(NULL.states, 2, 0))
  np.testing.assert_array_equal(pair.pooled[3], NULL.pooled[0])
  np.testing.assert_array_equal(pair.micro[:, 0], [6.5, 5.0, 6.5, 5.0])
  without = condition.with_null(CONDITION.replace(micro=None), NULL)
  assert without.micro is None


@pytest.mark.parametrize('width', [5, 256])
def test_score_features_are_sines_then_cosines(variables, width):
  module = TINY.clone(micro_width=width)
  features = module.apply(variables, jnp.array([6.5]), method='score_features')[
    0
  ]
  half = width // 2
  angle = 650 * 1000.0 ** (-np.arange(half) / half)
  expected = np.concatenate([np.sin(angle), np.cos(angle), np.zeros(width % 2)])
  np.testing.assert_allclose(features, expected, atol=1e-4)


def test_frequencies_fall_geometrically():
  angles = layers.sinusoid_angles(jnp.array([2.0]), 4, max_period=16)
  np.testing.assert_allclose(angles, [[2, 1, 0.5, 0.25]], rtol=1e-6)
