"""A small image classifier: feature space and judge of the evaluation.

Runs at laptop scale do without Inception: distances between image distributions
are measured in the penultimate layer of this network, which is trained once on
the real images, stored with the run and shared by all its rows. A second
instance, trained from another seed, measures label accuracy, so that the judge
is independent of the feature space.
"""

from collections.abc import Sequence

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class ClassifierOutput:
  """Output of the classifier for a batch.

  Attributes:
    features: float32 [B, F] in (-1, 1), the penultimate layer.
    logits: float32 [B, num_classes].
  """

  features: jax.Array
  logits: jax.Array


class SmallClassifier(nn.Module):
  """Convolutions that halve the image once per stage, then one hidden layer.

  Designed for images from 8x8x1 to 32x32x3, whose height and width must be
  divisible by `2 ** len(widths)`. Features are bounded (tanh), so that no
  outlier dominates a covariance.

  Attributes:
    num_classes: number of labels.
    widths: channels after each stage.
    feature_width: F, width of the penultimate layer.
    dropout_rate: dropout on the flattened convolution output and the features.
  """

  num_classes: int = 10
  widths: Sequence[int] = (32, 64)
  feature_width: int = 64
  dropout_rate: float = 0.3

  @nn.compact
  def __call__(
    self, images: jax.Array, *, deterministic: bool = True
  ) -> ClassifierOutput:
    """Classifies images.

    Args:
      images: float [B, H, W, C] in [0, 1].
      deterministic: whether dropout is off; otherwise the rng `dropout` is
        required.

    Returns:
      The features before dropout, and the logits.

    Raises:
      ValueError: if the images are not [B, H, W, C], or H or W is not
        divisible.
    """
    _check_images(images, 2 ** len(self.widths))
    x = 2 * images.astype(jnp.float32) - 1
    for width in self.widths:
      x = nn.relu(nn.Conv(width, (3, 3))(x))
      x = nn.relu(nn.Conv(width, (2, 2), strides=(2, 2), padding='VALID')(x))
    x = x.reshape(x.shape[0], -1)
    x = nn.Dropout(self.dropout_rate)(x, deterministic=deterministic)
    features = nn.tanh(nn.Dense(self.feature_width)(x))  # [B, F]
    x = nn.Dropout(self.dropout_rate)(features, deterministic=deterministic)
    return ClassifierOutput(features, nn.Dense(self.num_classes)(x))


def _check_images(images: jax.Array, divisor: int) -> None:
  """Rejects shapes that the strided convolutions would silently crop."""
  if images.ndim != 4:
    raise ValueError(f'images must be [B, H, W, C], got {images.shape}')
  height, width = images.shape[1:3]
  if height % divisor or width % divisor:
    raise ValueError(
      f'images of {height}x{width} pixels are not divisible by {divisor}'
    )
