"""Differentiable image resizing in the conventions of the field's libraries.

Two bicubic conventions differ in the third digit: antialiasing libraries
(torchvision since 0.17, Pillow) widen a cubic with a = -0.5 when shrinking;
those without (torch's own interpolation) use a = -0.75. Both are linear along
each axis, so they are products with constant matrices, on any device and in
either mode of differentiation. TensorFlow 1's bilinear resize, which the FID
network was trained with, is a third convention.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from softdimo_jax.ops.precision import at_least_float32

# Free parameter of the cubic (Keys, 1981), with and without antialiasing.
_CUBIC, _TORCH_CUBIC = -0.5, -0.75


def resize_bicubic(
  images: jax.Array, height: int, width: int, *, antialias: bool = True
) -> jax.Array:
  """Bicubic resize with half-pixel centres; may overshoot the range.

  Args:
    images: float or uint8 [..., H, W, C].
    height: new height.
    width: new width.
    antialias: True as in torchvision >= 0.17 and Pillow; False as in torch's
      interpolation and torchvision < 0.17 on tensors.

  Returns:
    float32 [..., height, width, C]; bfloat16 would be off by 0.01.
  """
  weights = _wide_weights if antialias else _cubic_weights
  return _resize(images, height, width, weights)


def resize_bilinear(images: jax.Array, height: int, width: int) -> jax.Array:
  """Bilinear resize with half-pixel centres, without antialiasing.

  Equals torch's interpolation with `align_corners=False`, as in pytorch-fid;
  arguments and result as in `resize_bicubic`.
  """
  return _resize(images, height, width, _linear_weights)


def resize_tf1(images: jax.Array, height: int, width: int) -> jax.Array:
  """TensorFlow 1's bilinear resize, which precedes FID's Inception network.

  Aligns the upper left corners instead of the pixel centres, without
  antialiasing. Like TensorFlow, interpolates along the width first, in float32;
  arguments and result as in `resize_bicubic`.
  """
  images = jnp.asarray(images, jnp.float32)
  return _lerp(_lerp(images, width, axis=-2), height, axis=-3)


def _lerp(images: jax.Array, new_size: int, axis: int) -> jax.Array:
  size = images.shape[axis]
  step = np.float32(size) / np.float32(new_size)
  position = np.arange(new_size, dtype=np.float32) * step
  below = position.astype(np.int32)
  share = (position - below).reshape([-1] + [1] * (-1 - axis))
  low = jnp.take(images, below, axis)
  high = jnp.take(images, np.minimum(below + 1, size - 1), axis)
  return low + (high - low) * share


def _resize(images, height, width, weights) -> jax.Array:
  """Multiplies height and width by `weights(old size, new size)`."""
  images = at_least_float32(images)
  multiply = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
  if images.shape[-2] != width:
    matrix = weights(images.shape[-2], width).astype(np.float32)
    images = multiply('ow,...wc->...oc', matrix, images)
  if images.shape[-3] != height:
    matrix = weights(images.shape[-3], height).astype(np.float32)
    images = multiply('oh,...hwc->...owc', matrix, images)
  return images


def _centres(size: int, new_size: int) -> np.ndarray:
  """Centres of the new pixels in old coordinates: float64 [new_size]."""
  return (np.arange(new_size) + 0.5) * (size / new_size) - 0.5


def _wide_weights(size: int, new_size: int) -> np.ndarray:
  """Matrix [new_size, size] of the cubic, stretched to the new pixel size."""
  stretch = max(size / new_size, 1.0)
  centres = _centres(size, new_size)[:, None]
  weights = _cubic((np.arange(size) - centres) / stretch, _CUBIC)
  return weights / weights.sum(1, keepdims=True)


def _cubic_weights(size: int, new_size: int) -> np.ndarray:
  """Matrix [new_size, size] of the cubic over four old pixels each."""
  kernel = functools.partial(_cubic, a=_TORCH_CUBIC)
  return _narrow_weights(size, new_size, kernel, taps=(-1, 0, 1, 2))


def _linear_weights(size: int, new_size: int) -> np.ndarray:
  """Matrix [new_size, size] of linear weights on two old pixels each."""
  kernel = lambda x: 1 - np.abs(x)
  return _narrow_weights(size, new_size, kernel, taps=(0, 1))


def _narrow_weights(size, new_size, kernel, taps) -> np.ndarray:
  """Weights of the old pixels near each new one; the edge is repeated."""
  centres = _centres(size, new_size)
  weights = np.zeros((new_size, size))
  for tap in taps:
    pixel = np.floor(centres).astype(int) + tap
    inside = np.clip(pixel, 0, size - 1)
    weights[np.arange(new_size), inside] += kernel(pixel - centres)
  return weights


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
  """Cubic convolution kernel (Keys, 1981), zero beyond two pixels."""
  x = np.abs(x)
  near = ((a + 2) * x - (a + 3)) * x**2 + 1
  far = a * (((x - 5) * x + 8) * x - 4)
  return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
