"""Image files to pixels of one size, as in the official training code.

Pillow decodes and resizes (its bicubic filter antialiases when shrinking), so
rounding matches torchvision's transforms on PIL images. Unlike torchvision, it
turns images as their EXIF orientation says.
"""

import io
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import PIL.Image

# Formats Pillow may try; some of its other readers start external programs.
_FORMATS = ('JPEG', 'PNG', 'WEBP')
_MODES = {1: 'L', 3: 'RGB'}
_MASKBIT_SCALE = (0.8, 1.0)
# Images with more pixels are refused, since every thread holds one: of a plain
# file, 4 bytes a pixel in Pillow and 3 in the result. The largest of ImageNet
# has 61 million.
_MOST_PIXELS = 2**26
PIL.Image.MAX_IMAGE_PIXELS = None  # its own limits, which are higher
# Pixels that are converted at once.
_BAND = 2**20
# How libjpeg can shrink an image while it decodes it.
_SHRINKS = (2, 4, 8)
# The long side of an image that is resized, as a multiple of the short one.
_LONGEST = 32
_EXIF_ORIENTATION = 274
# Views, which take no memory.
_TURNS: Mapping[int, Callable[[np.ndarray], np.ndarray]] = {
  2: np.fliplr,
  3: lambda pixels: np.rot90(pixels, 2),
  4: np.flipud,
  5: lambda pixels: pixels.swapaxes(0, 1),
  6: lambda pixels: np.rot90(pixels, -1),
  7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
  8: np.rot90,
}
# Pillow scales pixels of these PNG files to 8 bits, but not the level that the
# file declares transparent.
_TRANSPARENT: Mapping[str, Callable[[Any], Any]] = {
  'L;2': lambda level: 85 * level,
  'L;4': lambda level: 17 * level,
  'RGB;16B': lambda levels: tuple(level >> 8 for level in levels),
}

Augmentation = Callable[[np.random.Generator, np.ndarray, int], np.ndarray]


class CorruptImage(Exception):
  """The bytes are not a complete image; the message says why."""


def decode(
  data: bytes, channels: int = 3, *, shrink: bool = False
) -> np.ndarray:
  """Pixels of a JPEG, PNG or WebP file.

  Grey, palette and CMYK images are converted, 16-bit images are scaled to 8
  bits, transparent images are composited on white, and images are turned as
  their EXIF orientation says.

  Args:
    data: contents of the file.
    channels: C, 1 for grey or 3 for RGB.
    shrink: whether a JPEG file with more than 2^26 pixels is decoded at half,
      a fourth or an eighth of its size; for images that are resized anyway.

  Returns:
    uint8 [H, W, C].

  Raises:
    CorruptImage: if the bytes cannot be decoded completely, are an animation,
      or have more than 2^26 pixels.
    ValueError: for another number of channels.
  """
  if channels not in _MODES:
    raise ValueError(f'channels={channels} must be 1 or 3')
  try:
    with PIL.Image.open(io.BytesIO(data), formats=_FORMATS) as image:
      if shrink:
        _shrink(image)
      _check(image)
      _load(image)
      pixels = _turned(_converted(image, channels), image)
  except CorruptImage:
    raise
  except PIL.UnidentifiedImageError as error:
    raise CorruptImage(f'not a {" or ".join(_FORMATS)} file') from error
  except MemoryError:  # not the file's fault
    raise
  except Exception as error:  # parsers may raise anything
    raise CorruptImage(f'{type(error).__name__}: {error}') from error
  return pixels


def _shrink(image: PIL.Image.Image) -> None:
  """Prepares a large JPEG to be decoded at a smaller size."""
  width, height = image.size
  # Of a progressive file, libjpeg holds everything.
  if image.format != 'JPEG' or 'progressive' in image.info:
    return
  for factor in (1, *_SHRINKS):
    if width * height <= _MOST_PIXELS * factor**2:
      image.draft(image.mode, (width // factor, height // factor))
      return


def _check(image: PIL.Image.Image) -> None:
  """Refuses files from which one image cannot be taken; reads the header."""
  width, height = image.size
  if width * height > _MOST_PIXELS:
    raise CorruptImage(
      f'{width}x{height} pixels are more than {_MOST_PIXELS}; make it smaller'
    )
  # The further pictures of an MPO file, e.g. a depth map, are not frames.
  frames = 1 if image.format == 'MPO' else getattr(image, 'n_frames', 1)
  if frames > 1:
    raise CorruptImage(f'it is an animation of {frames} frames')


def _load(image: PIL.Image.Image) -> None:
  tiles = getattr(image, 'tile', ())
  raw = tiles[0][3] if tiles else None
  image.load()
  transparent = image.info.get('transparency')
  if isinstance(raw, str) and raw in _TRANSPARENT and transparent is not None:
    image.info['transparency'] = _TRANSPARENT[raw](transparent)


def _turned(pixels: np.ndarray, image: PIL.Image.Image) -> np.ndarray:
  try:
    turn = _TURNS.get(image.getexif().get(_EXIF_ORIENTATION, 1))
  except Exception:  # damaged metadata say nothing about the pixels
    turn = None
  return pixels if turn is None else turn(pixels)


def _converted(image: PIL.Image.Image, channels: int) -> np.ndarray:
  """Pixels [H, W, C], converted in bands of rows, so that copies are small."""
  width, height = image.size
  rows = max(1, _BAND // width)
  pixels = np.empty((height, width, channels), np.uint8)
  for top in range(0, height, rows):
    band = image.crop((0, top, width, min(top + rows, height)))
    part = np.asarray(_convert(band, _MODES[channels]))
    pixels[top : top + rows] = part.reshape(*part.shape[:2], channels)
  return pixels


def _convert(image: PIL.Image.Image, mode: str) -> PIL.Image.Image:
  if image.mode.startswith('I'):
    # 16 bits per pixel; Pillow's own conversion would clip at 255.
    levels = np.clip(np.asarray(image, np.int64), 0, 65535)
    if 'transparency' in image.info:
      levels[levels == image.info['transparency']] = 65535  # white
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

  The ends of an image longer than 32 times its short side are cut off before,
  so that `size` bounds the memory.

  Args:
    pixels: uint8 [H, W, C].
    size: new length of the short side.

  Returns:
    uint8 [h, w, C] with min(h, w) = size.
  """
  short = min(pixels.shape[:2])
  height, width = (min(side, _LONGEST * short) for side in pixels.shape[:2])
  top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
  pixels = pixels[top : top + height, left : left + width]
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
