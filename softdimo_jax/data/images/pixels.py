"""Image files to pixels of one size, as in the official training code.

Pillow decodes and resizes (its bicubic filter antialiases when shrinking), so
rounding matches torchvision's transforms on PIL images. Like torchvision, it
ignores the EXIF orientation.
"""

import io
import types
from collections.abc import Callable, Mapping

import numpy as np
import PIL.Image

# Formats Pillow may try; some of its other readers start external programs.
_FORMATS = ('JPEG', 'PNG', 'WEBP')
_MODES = {1: 'L', 3: 'RGB'}
_MASKBIT_SCALE = (0.8, 1.0)

Augmentation = Callable[[np.random.Generator, np.ndarray, int], np.ndarray]


class CorruptImage(Exception):
  """The bytes are not a complete image; the message says why."""


def decode(data: bytes, channels: int = 3) -> np.ndarray:
  """Pixels of a JPEG, PNG or WebP file.

  Grey, palette and CMYK images are converted, 16-bit images are scaled to 8
  bits, and transparent images are composited on white.

  Args:
    data: contents of the file.
    channels: C, 1 for grey or 3 for RGB.

  Returns:
    uint8 [H, W, C].

  Raises:
    CorruptImage: if the bytes cannot be decoded completely.
    ValueError: for another number of channels.
  """
  if channels not in _MODES:
    raise ValueError(f'channels={channels} must be 1 or 3')
  try:
    with PIL.Image.open(io.BytesIO(data), formats=_FORMATS) as image:
      image.load()
      pixels = np.asarray(_convert(image, _MODES[channels]))
  except PIL.UnidentifiedImageError as error:
    raise CorruptImage(f'not a {" or ".join(_FORMATS)} file') from error
  except MemoryError:  # not the file's fault
    raise
  except Exception as error:  # parsers may raise anything
    raise CorruptImage(f'{type(error).__name__}: {error}') from error
  return pixels.reshape(*pixels.shape[:2], channels)


def _convert(image: PIL.Image.Image, mode: str) -> PIL.Image.Image:
  if image.mode.startswith('I'):
    # 16 bits per pixel; Pillow's own conversion would clip at 255.
    levels = np.clip(np.asarray(image, np.int64), 0, 65535)
    image = PIL.Image.fromarray(((levels + 128) // 257).astype(np.uint8))
  elif image.has_transparency_data:
    image = image.convert('RGBA')
    white = PIL.Image.new('RGBA', image.size, 'white')
    image = PIL.Image.alpha_composite(white, image)
  return image.convert(mode)


def to_float(pixels: np.ndarray) -> np.ndarray:
  """uint8 [...] -> float32 [...] in [0, 1], the range of the networks."""
  return pixels.astype(np.float32) / np.float32(255)


def resize(
  pixels: np.ndarray,
  height: int,
  width: int,
  resample: PIL.Image.Resampling = PIL.Image.Resampling.BICUBIC,
) -> np.ndarray:
  """Pillow's antialiased resize, which rounds to integers after each axis.

  Args:
    pixels: uint8 [H, W, C], C of 1 or 3.
    height: new height.
    width: new width.
    resample: filter.

  Returns:
    uint8 [height, width, C].
  """
  if pixels.shape[:2] == (height, width):
    return pixels
  channels = pixels.shape[2]
  flat = pixels[..., 0] if channels == 1 else pixels
  image = PIL.Image.fromarray(np.ascontiguousarray(flat))
  resized = image.resize((width, height), resample)
  return np.asarray(resized).reshape(height, width, channels)


def resize_short_side(pixels: np.ndarray, size: int) -> np.ndarray:
  """Bicubic resize that keeps the aspect; the long side is rounded down.

  Args:
    pixels: uint8 [H, W, C].
    size: new length of the short side.

  Returns:
    uint8 [h, w, C] with min(h, w) = size.
  """
  height, width = pixels.shape[:2]
  short = min(height, width)
  return resize(pixels, size * height // short, size * width // short)


def center_crop(pixels: np.ndarray, size: int) -> np.ndarray:
  """Central size x size pixels of uint8 [H, W, C], H and W at least `size`.

  Half of an odd margin is rounded to even, as in torchvision.
  """
  height, width = pixels.shape[:2]
  return _crop(
    pixels, round((height - size) / 2), round((width - size) / 2), size
  )


def random_crop(
  rng: np.random.Generator, pixels: np.ndarray, size: int
) -> np.ndarray:
  """size x size pixels of uint8 [H, W, C] at a uniformly random position."""
  height, width = pixels.shape[:2]
  top = rng.integers(height - size + 1)
  return _crop(pixels, top, rng.integers(width - size + 1), size)


def random_resized_crop(
  rng: np.random.Generator,
  pixels: np.ndarray,
  size: int,
  scale: tuple[float, float] = _MASKBIT_SCALE,
) -> np.ndarray:
  """Crops a square with a random share of the area and resizes it.

  torchvision's RandomResizedCrop with ratio 1 (MaskBit's training): after ten
  squares that do not fit, which is likely for elongated images, it takes the
  largest central one.

  Args:
    rng: generator.
    pixels: uint8 [H, W, C].
    size: side of the result.
    scale: bounds of the share of the area.

  Returns:
    uint8 [size, size, C].
  """
  height, width = pixels.shape[:2]
  short = min(height, width)
  for _ in range(10):
    side = round((height * width * rng.uniform(*scale)) ** 0.5)
    if 0 < side <= short:
      return resize(random_crop(rng, pixels, side), size, size)
  square = _crop(pixels, (height - short) // 2, (width - short) // 2, short)
  return resize(square, size, size)


def random_flip(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
  """Mirrors left and right with probability 1/2."""
  return pixels[:, ::-1] if rng.random() < 0.5 else pixels


def square(pixels: np.ndarray, size: int) -> np.ndarray:
  """Deterministic preprocessing: short side to `size`, then a centre crop."""
  return center_crop(resize_short_side(pixels, size), size)


def _no_augmentation(
  rng: np.random.Generator, pixels: np.ndarray, size: int
) -> np.ndarray:
  del rng
  return square(pixels, size)


def _flip(
  rng: np.random.Generator, pixels: np.ndarray, size: int
) -> np.ndarray:
  return random_flip(rng, square(pixels, size))


def _maskgit(
  rng: np.random.Generator, pixels: np.ndarray, size: int
) -> np.ndarray:
  pixels = random_crop(rng, resize_short_side(pixels, size), size)
  return random_flip(rng, pixels)


def _maskbit(
  rng: np.random.Generator, pixels: np.ndarray, size: int
) -> np.ndarray:
  return random_flip(rng, random_resized_crop(rng, pixels, size))


# (rng, uint8 [H, W, C], size) -> uint8 [size, size, C].
AUGMENTATIONS: Mapping[str, Augmentation] = types.MappingProxyType(
  {
    'none': _no_augmentation,
    'flip': _flip,
    'maskgit': _maskgit,  # random crop and flip
    'maskbit': _maskbit,  # random-resized crop and flip
  }
)


def _crop(pixels: np.ndarray, top: int, left: int, size: int) -> np.ndarray:
  return pixels[top : top + size, left : left + size]
