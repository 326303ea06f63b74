import jax
import jax.numpy as jnp
import numpy as np
import optax

from softdimo_jax.ops import ranking
from softdimo_jax.ops.quantization import l2_normalize

BATCH, WIDTH = 5, 8
# Which captions are equal: each one only itself, and no wrong one.
OWN, NONE = jnp.eye(BATCH, dtype=bool), jnp.zeros((BATCH, BATCH), bool)


def unit(seed):
  return l2_normalize(jax.random.normal(jax.random.key(seed), (BATCH, WIDTH)))


def test_contrastive_loss_is_two_cross_entropies():
  image, text, wrong = unit(0), unit(1), unit(2)
  loss, _ = ranking.contrastive_loss(
    image, text, wrong, jnp.float32(3.0), OWN, NONE
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
  same = OWN.at[0, 1].set(True).at[1, 0].set(True)
  run = lambda text, same: ranking.contrastive_loss(
    image, text, wrong, jnp.float32(3.0), same, NONE
  )[0]
  gradient = jax.grad(run)(text, same)
  assert run(text, same) < run(text, OWN)
  assert np.isfinite(gradient).all()


def test_wrong_captions_that_equal_the_own_are_no_negatives():
  image, text, wrong = unit(0), unit(1), unit(2)
  wrong = wrong.at[3].set(text[0])
  wrong_same = NONE.at[0, 3].set(True)
  loss, _ = ranking.contrastive_loss(
    image, text, wrong, jnp.float32(3.0), OWN, wrong_same
  )
  of_images = 3 * np.concatenate([image @ text.T, image @ wrong.T], axis=1)
  log_sum = lambda row: np.log(np.exp(row).sum())
  totals = [log_sum(row) for row in of_images]
  totals[0] = log_sum(np.delete(of_images[0], BATCH + 3))
  of_texts = 3 * np.asarray(text @ image.T)
  expected = np.mean(totals) + np.mean([log_sum(row) for row in of_texts])
  expected -= 2 * np.diag(of_texts).mean()
  np.testing.assert_allclose(loss, expected / 2, rtol=1e-5)


def test_accuracy_compares_with_the_own_wrong_caption():
  image = jnp.eye(BATCH, WIDTH)
  _, accuracy = ranking.contrastive_loss(
    image, image, -image, jnp.float32(1.0), OWN, NONE
  )
  assert accuracy == 1
  _, accuracy = ranking.contrastive_loss(
    image, -image, image, jnp.float32(1.0), OWN, NONE
  )
  assert accuracy == 0


def test_bradley_terry_is_the_likelihood_of_the_order():
  winner, loser = jnp.array([2.0, 0.0]), jnp.array([1.0, 3.0])
  loss, accuracy = ranking.bradley_terry_loss(
    winner, loser, jnp.array([True, True])
  )
  expected = -np.log(1 / (1 + np.exp(loser - winner))).mean()
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  assert accuracy == 0.5


def test_pairs_that_show_the_same_are_left_out():
  winner, loser = jnp.array([2.0, 0.0, 1.0]), jnp.array([1.0, 3.0, 1.0])
  run = lambda winner, differ: ranking.bradley_terry_loss(
    winner, loser, jnp.array(differ)
  )
  expected = ranking.bradley_terry_loss(
    winner[:1], loser[:1], jnp.array([True])
  )
  np.testing.assert_allclose(run(winner, [True, False, False]), expected)
  gradient = jax.grad(lambda x: run(x, [True, False, False])[0])(winner)
  assert (gradient != 0).tolist() == [True, False, False]
  assert run(winner, [False] * 3) == (0, 0)
