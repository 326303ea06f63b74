import jax
import jax.numpy as jnp
import numpy as np
import optax

from softdimo_jax.ops import ranking
from softdimo_jax.ops.quantization import l2_normalize

BATCH, WIDTH = 5, 8


def unit(seed):
  return l2_normalize(jax.random.normal(jax.random.key(seed), (BATCH, WIDTH)))


def test_contrastive_loss_is_two_cross_entropies():
  image, text, wrong = unit(0), unit(1), unit(2)
  loss, _ = ranking.contrastive_loss(
    image, text, wrong, jnp.float32(3.0), jnp.eye(BATCH, dtype=bool)
  )
  own = jnp.arange(BATCH)
  of_images = 3 * jnp.concatenate([image @ text.T, image @ wrong.T], 1)
  of_texts = 3 * text @ image.T
  entropy = optax.softmax_cross_entropy_with_integer_labels
  expected = entropy(of_images, own).mean() + entropy(of_texts, own).mean()
  np.testing.assert_allclose(loss, expected / 2, rtol=1e-5)


def test_equal_captions_are_no_negatives():
  image, text, wrong = unit(0), unit(1), unit(2)
  text = text.at[1].set(text[0])
  same = jnp.eye(BATCH, dtype=bool).at[0, 1].set(True).at[1, 0].set(True)
  run = lambda text, same: ranking.contrastive_loss(
    image, text, wrong, jnp.float32(3.0), same
  )[0]
  gradient = jax.grad(run)(text, same)
  assert run(text, same) < run(text, jnp.eye(BATCH, dtype=bool))
  assert np.isfinite(gradient).all()


def test_accuracy_compares_with_the_own_wrong_caption():
  image = jnp.eye(BATCH, WIDTH)
  _, accuracy = ranking.contrastive_loss(
    image, image, -image, jnp.float32(1.0), jnp.eye(BATCH, dtype=bool)
  )
  assert accuracy == 1
  _, accuracy = ranking.contrastive_loss(
    image, -image, image, jnp.float32(1.0), jnp.eye(BATCH, dtype=bool)
  )
  assert accuracy == 0


def test_bradley_terry_is_the_likelihood_of_the_order():
  winner, loser = jnp.array([2.0, 0.0]), jnp.array([1.0, 3.0])
  loss, accuracy = ranking.bradley_terry_loss(winner, loser)
  expected = -np.log(1 / (1 + np.exp(loser - winner))).mean()
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  assert accuracy == 0.5
