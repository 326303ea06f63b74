"""Differentiable preprocessing of generated images for CLIP-like networks."""

import dataclasses

import jax
import jax.numpy as jnp

from softdimo_jax.ops.precision import at_least_float32
from softdimo_jax.ops.resize import resize_bicubic

# From OpenAI's CLIP; also used by open_clip, HPSv2, PickScore, ImageReward.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageTransform:
  """Resizes the short side to `size`, crops the centre and normalises.

  ReNO's preprocessing for all its rewards, and HPSv2's for its own. Nothing is
  clamped or rounded, so gradients reach every pixel; for reported scores,
  quantise the images first, as saving to a file does.

  Attributes:
    size: side of the network's square input.
    antialias: whether to antialias. HPSv2 resizes tensors, which torchvision
      antialiases only since 0.17; scores differ, so state this with every HPS.
    mean: mean of each channel [C].
    std: standard deviation of each channel [C].
  """

  size: int = 224
  antialias: bool = True
  mean: tuple[float, ...] = CLIP_MEAN
  std: tuple[float, ...] = CLIP_STD

  def __call__(self, images: jax.Array) -> jax.Array:
    """The network's input.

    Args:
      images: float [B, H, W, C] in [0, 1].

    Returns:
      float32 [B, size, size, C].

    Raises:
      ValueError: if the number of channels is not C.
    """
    resized = resize_short_side(images, self.size, antialias=self.antialias)
    cropped = center_crop(resized, self.size)
    return normalize(cropped, self.mean, self.std)


def resize_short_side(
  images: jax.Array, size: int, *, antialias: bool = True
) -> jax.Array:
  """Bicubic resize that keeps the aspect; the long side is rounded down.

  Args:
    images: float [B, H, W, C].
    size: new length of the short side.
    antialias: see `resize_bicubic`.

  Returns:
    float32 [B, h, w, C] with min(h, w) = size.
  """
  height, width = images.shape[-3:-1]
  short = min(height, width)
  return resize_bicubic(
    images,
    size * height // short,
    size * width // short,
    antialias=antialias,
  )


def center_crop(images: jax.Array, size: int) -> jax.Array:
  """Central size x size pixels of [..., H, W, C].

  Half of an odd margin is rounded to even, as in torchvision.

  Raises:
    ValueError: if the images are smaller than the crop.
  """
  height, width = images.shape[-3:-1]
  if min(height, width) < size:
    raise ValueError(
      f'cannot crop {size}x{size} pixels from {height}x{width} pixels'
    )
  top, left = round((height - size) / 2), round((width - size) / 2)
  return images[..., top : top + size, left : left + size, :]


def normalize(
  images: jax.Array,
  mean: tuple[float, ...] = CLIP_MEAN,
  std: tuple[float, ...] = CLIP_STD,
) -> jax.Array:
  """(images - mean) / std per channel: [..., C] in [0, 1] -> float32 [..., C].

  Raises:
    ValueError: if `images`, `mean` and `std` differ in number of channels.
  """
  if not images.shape[-1] == len(mean) == len(std):
    raise ValueError(
      f'{images.shape[-1]} channels, but {len(mean)} means and {len(std)} stds'
    )
  images = at_least_float32(images)
  return (images - jnp.asarray(mean)) / jnp.asarray(std)
