"""Losses that train reward models: captions of images, and preferences."""

import chex
import jax
import jax.numpy as jnp


def contrastive_loss(
  image: jax.Array,
  text: jax.Array,
  wrong_text: jax.Array,
  scale: jax.Array,
  same: jax.Array,
  wrong_same: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """CLIP's InfoNCE loss with one hard negative caption per image.

  Args:
    image: unit vectors float [B, E].
    text: unit vectors float [B, E] of the images' own captions.
    wrong_text: unit vectors float [B, E] of captions that are false for the
      image of the same row; they are negatives for the other images too.
    scale: float [], factor on the cosines.
    same: bool [B, B], true where the caption of the image in the row equals
      that in the column, so the pair is not a negative. The diagonal is
      ignored.
    wrong_same: the same for the wrong captions in the columns.

  Returns:
    (loss, share of images that are closer to their own caption than to their
    wrong one).
  """
  chex.assert_equal_shape([image, text, wrong_text])
  own = jnp.arange(len(image))
  excluded = same & ~jnp.eye(len(image), dtype=bool)
  cosines = image @ text.T
  logits = jnp.where(excluded, -jnp.inf, scale * cosines)
  wrong = image @ wrong_text.T
  wrong_logits = jnp.where(wrong_same, -jnp.inf, scale * wrong)
  of_images = jnp.concatenate([logits, wrong_logits], axis=1)
  picked = lambda x: -jax.nn.log_softmax(x)[own, own].mean()
  right = cosines[own, own] > wrong[own, own]
  return (picked(of_images) + picked(logits.T)) / 2, right.mean()


def bradley_terry_loss(
  winner: jax.Array, loser: jax.Array, differ: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Mean of -log P(winner beats loser).

  Args:
    winner: scores [B] of the preferred images.
    loser: scores [B] of the others.
    differ: bool [B], false where both show the same and the pair is left out.

  Returns:
    (loss, share of pairs ranked correctly).
  """
  chex.assert_equal_shape([winner, loser, differ])
  mean = lambda x: jnp.where(differ, x, 0).sum() / jnp.maximum(differ.sum(), 1)
  return mean(jax.nn.softplus(loser - winner)), mean(winner > loser)
