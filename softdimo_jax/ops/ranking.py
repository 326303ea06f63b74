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
) -> tuple[jax.Array, jax.Array]:
  """CLIP's InfoNCE loss with one hard negative caption per image.

  Args:
    image: unit vectors float [B, E].
    text: unit vectors float [B, E] of the images' own captions.
    wrong_text: unit vectors float [B, E]; each is a negative for every image.
    scale: float [], factor on the cosines.
    same: bool [B, B], true where two captions are equal, so the pair is not
      used as a negative. The diagonal is ignored.

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
  of_images = jnp.concatenate([logits, scale * wrong], axis=1)
  picked = lambda x: -jax.nn.log_softmax(x)[own, own].mean()
  right = cosines[own, own] > wrong[own, own]
  return (picked(of_images) + picked(logits.T)) / 2, right.mean()


def bradley_terry_loss(
  winner: jax.Array, loser: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Mean of -log P(winner beats loser).

  Args:
    winner: scores [B] of the preferred images.
    loser: scores [B] of the others.

  Returns:
    (loss, share of pairs ranked correctly).
  """
  chex.assert_equal_shape([winner, loser])
  return jax.nn.softplus(loser - winner).mean(), (winner > loser).mean()
