"""The Inception network of FID (Szegedy et al. 2015; weights of 2015-12-05).

Published FIDs, sFIDs and Inception scores are computed with it. It differs from
torchvision's Inception v3: average pools exclude the padding, the last block
uses max pooling, there are 1008 classes, and images are resized as in
TensorFlow 1. Layers keep their TensorFlow names, as the literature uses them.

Official class: `FeatureExtractorInceptionV3` of toshas/torch-fidelity.
"""

import functools

import flax.linen as nn
import flax.struct
import jax

from softdimo_jax.networks.inception_blocks import (
  PRECISION,
  WIDTH,
  Grid8,
  Grid17,
  Grid35,
  MakeUnit,
  Reduction17,
  Reduction35,
  Unit,
  average_pool_same,
  max_pool,
  max_pool_same,
)
from softdimo_jax.ops.resize import resize_tf1

# A common divisor of the channels of all layers of the released network.
_COMMON_CHANNELS = 16
# Smallest resolution that leaves the last blocks a pixel.
_SMALLEST = 75
# sFID uses the first channels of Mixed_6d (TensorFlow's tensor mixed_6/conv).
_SPATIAL_CHANNELS = 7


@flax.struct.dataclass
class InceptionOutput:
  """Features of a batch of images.

  Attributes:
    pool: float32 [B, D], mean over the last map (D = 2048), for FID, KID,
      precision and recall.
    spatial: float32 [B, S S 7], first channels of Mixed_6d (2023 values), for
      sFID.
    logits: float32 [B, K], without the last layer's bias, which the Inception
      score omits.
    biased_logits: float32 [B, K], with the bias.
  """

  pool: jax.Array
  spatial: jax.Array
  logits: jax.Array
  biased_logits: jax.Array


def prepare(images: jax.Array, resolution: int = 299) -> jax.Array:
  """Resizes images as TensorFlow 1 does and scales them to [-1, 1).

  Args:
    images: float or uint8 [B, H, W, 3], values from 0 to 255.
    resolution: side of the result.

  Returns:
    float32 [B, resolution, resolution, 3].
  """
  return scaled(resize_tf1(images, resolution, resolution))


def scaled(pixels: jax.Array) -> jax.Array:
  """Maps [0, 255] to [-1, 1): (x - 128) / 128."""
  return (pixels - 128) / 128


class Inception(nn.Module):
  """Features of images; defaults match the released weights.

  Attributes:
    width: channels of the first layer, even; the other layers scale with it.
      The released weights have 32, tests fewer.
    num_classes: number of classes, K.
    resolution: side of the network's input, at least 75.
    epsilon: epsilon of the norms.

  Raises:
    ValueError: at first use, if the width is odd or the resolution too small.
  """

  width: int = WIDTH
  num_classes: int = 1008
  resolution: int = 299
  epsilon: float = 1e-3

  def __call__(self, images: jax.Array) -> InceptionOutput:
    """Features of images, resized as in training.

    Args:
      images: float or uint8 [B, H, W, 3], values from 0 to 255.

    Raises:
      ValueError: if the images have a different shape.
    """
    if images.ndim != 4 or images.shape[-1] != 3:
      raise ValueError(f'images of shape {images.shape} are not [B, H, W, 3]')
    return self.features(prepare(images, self.resolution))

  @nn.compact
  def features(self, inputs: jax.Array) -> InceptionOutput:
    """Features of images that `prepare`, or another resizer, has prepared.

    Args:
      inputs: float [B, R, R, 3] in [-1, 1], R = `resolution`.

    Raises:
      ValueError: if the inputs have a different shape.
    """
    self._check(inputs)
    unit = functools.partial(Unit, width=self.width, epsilon=self.epsilon)
    x = _stem(unit, inputs)
    for letter, pooled in zip('bcd', (32, 64, 64), strict=True):
      x = Grid35(unit, pooled, name=f'Mixed_5{letter}')(x)
    x = Reduction35(unit, name='Mixed_6a')(x)
    for letter, inner in zip('bcd', (128, 160, 160), strict=True):
      x = Grid17(unit, inner, name=f'Mixed_6{letter}')(x)
    spatial = x[..., :_SPATIAL_CHANNELS]
    x = Grid17(unit, 192, name='Mixed_6e')(x)
    x = Reduction17(unit, name='Mixed_7a')(x)
    x = Grid8(unit, average_pool_same, name='Mixed_7b')(x)
    pool = Grid8(unit, max_pool_same, name='Mixed_7c')(x).mean((1, 2))
    logits = nn.Dense(
      self.num_classes, use_bias=False, precision=PRECISION, name='fc'
    )(pool)
    bias = self.param('fc_bias', nn.initializers.zeros, (self.num_classes,))
    return InceptionOutput(
      pool=pool,
      spatial=spatial.reshape(len(spatial), -1),
      logits=logits,
      biased_logits=logits + bias,
    )

  def _check(self, inputs: jax.Array) -> None:
    side, least = self.resolution, WIDTH // _COMMON_CHANNELS
    if self.width % least:
      raise ValueError(f'width {self.width} is not a multiple of {least}')
    if side < _SMALLEST:
      raise ValueError(f'resolution {side} is below {_SMALLEST}')
    if inputs.shape[1:] != (side, side, 3):
      raise ValueError(
        f'inputs of shape {inputs.shape} are not [B, {side}, {side}, 3]'
      )


def _stem(unit: MakeUnit, x: jax.Array) -> jax.Array:
  """Layers before the blocks: [B, R, R, 3] -> maps of 35 x 35."""
  x = unit(32, (3, 3), 2, 'VALID', name='Conv2d_1a_3x3')(x)
  x = unit(32, (3, 3), padding='VALID', name='Conv2d_2a_3x3')(x)
  x = max_pool(unit(64, (3, 3), name='Conv2d_2b_3x3')(x))
  x = unit(80, (1, 1), name='Conv2d_3b_1x1')(x)
  return max_pool(unit(192, (3, 3), padding='VALID', name='Conv2d_4a_3x3')(x))
