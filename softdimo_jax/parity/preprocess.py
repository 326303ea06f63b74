"""Fixtures of resizing and normalising images for rewards and FID networks."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image

from softdimo_jax.data.images import pixels
from softdimo_jax.ops import preprocess, resize
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.record import Array, Arrays, to_nhwc

# Outputs that have the sizes of the official calls, which the fixtures do not
# contain: Di[M]O's images for CLIP (originally 256), and inputs of FID networks
# (299).
_DIMO, _FID = 'dimo_clip_crop_u8', ('cleanfid_clean', 'tf1_bilinear')


def image_transforms(fixture: Fixture) -> Arrays:
  """All arrays of the fixture, each under the tag `sJ` of its image size."""
  tags = re.findall(r'\b(s\d+)_u8\b', ' '.join(fixture.arrays))
  ours = {}
  for tag, part in fixture.tagged(tags):
    arrays = {
      **_float_paths(part),
      **_file_paths(part),
      **_fid_paths(part.arrays['u8'], _fid_size(part)),
    }
    ours |= {f'{tag}_{name}': array for name, array in arrays.items()}
  return ours


def _target(part: Fixture) -> int:
  return int(part.arrays['target'])


def _fid_size(part: Fixture) -> int:
  name = next(name for name in _FID if name in part.arrays)
  return part.arrays[name].shape[1]


def _transform(part: Fixture, antialias: bool) -> preprocess.ImageTransform:
  return preprocess.ImageTransform(
    size=_target(part),
    antialias=antialias,
    mean=tuple(part.config['mean']),
    std=tuple(part.config['std']),
  )


def _float_paths(part: Fixture) -> Arrays:
  """ReNO and HPSv2, which resize tensors, and the gradient of ReNO's."""
  images = jnp.asarray(pixels.to_float(part.arrays['u8']))
  wide, narrow = (_transform(part, antialias) for antialias in (True, False))
  reno, pullback = jax.vjp(wide, images)
  batch, height, width, channels = reno.shape
  weights = np.linspace(-1, 1, reno.size, dtype=np.float32)
  weights = to_nhwc(weights.reshape(batch, channels, height, width))
  size = _target(part)
  return {
    'reno': reno,
    'hps_aa': reno,
    'hps_noaa': narrow(images),
    'reno_grad': pullback(jnp.asarray(weights))[0],
    'resize_aa': preprocess.resize_short_side(images, size),
    'resize_noaa': preprocess.resize_short_side(images, size, antialias=False),
  }


def _file_paths(part: Fixture) -> Arrays:
  """Official codes that resize uint8 pixels with Pillow."""
  images, size = part.arrays['u8'], _target(part)
  transform = _transform(part, True)
  square = pixels.to_float(_each(images, lambda x: pixels.square(x, size)))
  normal = preprocess.normalize(
    jnp.asarray(square), transform.mean, transform.std
  )
  middle = _each(images, lambda x: pixels.center_crop(x, min(x.shape[:2])))
  lanczos = PIL.Image.Resampling.LANCZOS
  fid_size, dimo_size = _fid_size(part), part.arrays[_DIMO].shape[1]
  return {
    'imagereward_pil': normal,
    'openclip_pil': normal,
    'dimo_clip_crop_u8': _each(
      middle, lambda x: pixels.resize(x, dimo_size, dimo_size, lanczos)
    ),
    'cleanfid_quant_u8': _each(
      images, lambda x: pixels.resize(x, fid_size, fid_size)
    ),
  }


def _fid_paths(images: Array, size: int) -> Arrays:
  """Float resizers of FID networks, on pixels in [0, 255]."""
  clean = resize.resize_bicubic(images, size, size)
  return {
    'cleanfid_clean': jnp.clip(clean, 0, 255),
    'legacy_pytorch': resize.resize_bilinear(images, size, size),
    'tf1_bilinear': resize.resize_tf1(images, size, size),
  }


def _each(
  images: np.ndarray, function: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
  return np.stack([function(image) for image in images])
