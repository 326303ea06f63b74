"""Losses that teach a reward: captions of images, and preferences."""

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
  """InfoNCE of CLIP with one hard negative caption an image.

  Args:
    image: unit vectors float [B, E].
    text: unit vectors float [B, E] of the images' own captions.
    wrong_text: unit vectors float [B, E]; each is a negative of every image.
    scale: float [], of the cosines.
    same: bool [B, B], true where two captions are equal: such pairs are no
      negatives of each other. The diagonal does not matter.

  Returns:
    (loss, share of images that are nearer to their own than to their wrong
    caption).
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
  """-log P(winner beats loser) of scores [B]: (loss, share of right pairs)."""
  chex.assert_equal_shape([winner, loser])
  return jax.nn.softplus(loser - winner).mean(), (winner > loser).mean()
