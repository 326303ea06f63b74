import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.networks.classifier import SmallClassifier


@pytest.mark.parametrize(
  'shape', [(5, 8, 8, 1), (2, 16, 12, 3), (2, 32, 32, 3)]
)
def test_shapes(shape):
  model = SmallClassifier(num_classes=7, feature_width=24)
  output, _ = jax.eval_shape(
    model.init_with_output, jax.random.key(0), jnp.zeros(shape)
  )
  assert output.features.shape == (shape[0], 24)
  assert output.logits.shape == (shape[0], 7)
  assert output.features.dtype == output.logits.dtype == jnp.float32


@pytest.fixture(scope='module')
def images():
  return jax.random.uniform(jax.random.key(1), (4, 8, 8, 1))


@pytest.fixture(scope='module')
def params(images):
  return jax.jit(SmallClassifier().init)(jax.random.key(0), images)


def test_features_are_bounded(params, images):
  features = SmallClassifier().apply(params, 100 * images).features
  assert jnp.abs(features).max() <= 1
  assert jnp.abs(features).max() > 0.5


def test_images_do_not_influence_each_other(params, images):
  together = SmallClassifier().apply(params, images).logits
  alone = SmallClassifier().apply(params, images[2:3]).logits
  np.testing.assert_allclose(alone[0], together[2], atol=1e-5)


def test_dropout_draws_from_its_key_and_is_off_by_default(params, images):
  model = SmallClassifier()
  first, second = (
    model.apply(
      params, images, deterministic=False, rngs={'dropout': jax.random.key(i)}
    ).logits
    for i in range(2)
  )
  assert not np.allclose(first, second)
  evaluated = model.apply(params, images).logits
  explicit = model.apply(params, images, deterministic=True).logits
  np.testing.assert_array_equal(evaluated, explicit)


def test_every_parameter_has_a_gradient(params, images):
  @jax.grad
  def gradient(params):
    return jnp.square(SmallClassifier().apply(params, images).logits).sum()

  for leaf in jax.tree.leaves(jax.jit(gradient)(params)):
    assert jnp.abs(leaf).max() > 0


@pytest.mark.parametrize(
  ('shape', 'message'),
  [((2, 10, 8, 1), '10x8 pixels are not divisible by 4'), ((8, 8, 1), 'B, H')],
)
def test_bad_images(shape, message):
  with pytest.raises(ValueError, match=message):
    SmallClassifier().init(jax.random.key(0), jnp.zeros(shape))
