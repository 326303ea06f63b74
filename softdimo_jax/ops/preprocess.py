"""From a generated image to what a CLIP-like network sees, differentiable."""

import dataclasses

import jax
import jax.numpy as jnp

from softdimo_jax.ops.precision import at_least_float32
from softdimo_jax.ops.resize import resize_bicubic

# Of OpenAI's CLIP, taken over by open_clip, HPSv2, PickScore and ImageReward.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageTransform:
  """Short side to `size`, centre crop, normalisation, on float images.

  What ReNO puts before all its rewards, and HPSv2 before its own. Nothing is
  clamped or rounded, so that gradients are those of the pixels; for reported
  scores quantise the image first, as files do.

  Attributes:
    size: of the square that the network takes.
    antialias: HPSv2 resizes tensors, which torchvision antialiases since 0.17
      only: scores differ, so say which with every HPS.
    mean: of the channels [C].
    std: of the channels [C].
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
      ValueError: on another number of channels.
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
    size: of the shorter side.
    antialias: see `resize_bicubic`.

  Returns:
    float32 [B, h, w, C], min(h, w) = size.
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
  """Middle size x size pixels of [..., H, W, C].

  Where the margin is odd, its half rounds to even, as in torchvision.

  Raises:
    ValueError: if the images are smaller.
  """
  height, width = images.shape[-3:-1]
  if min(height, width) < size:
    raise ValueError(f'{height}x{width} pixels hold no {size}x{size}')
  top, left = round((height - size) / 2), round((width - size) / 2)
  return images[..., top : top + size, left : left + size, :]


def normalize(
  images: jax.Array,
  mean: tuple[float, ...] = CLIP_MEAN,
  std: tuple[float, ...] = CLIP_STD,
) -> jax.Array:
  """(images - mean) / std by channel: [..., C] in [0, 1] -> float32 [..., C].

  Raises:
    ValueError: if the number of channels is not that of `mean` and `std`.
  """
  if not images.shape[-1] == len(mean) == len(std):
    raise ValueError(
      f'{images.shape[-1]} channels, but {len(mean)} means and {len(std)} stds'
    )
  images = at_least_float32(images)
  return (images - jnp.asarray(mean)) / jnp.asarray(std)
