"""Float images to pixels: quantisation, sample grids and picture files."""

import io
import math
import os
import pathlib

import numpy as np
import PIL.Image

from softdimo_jax.runtime.files import write_atomically

# Formats of pictures, by the suffix of the file.
FORMATS = {'.png': 'PNG', '.jpg': 'JPEG', '.jpeg': 'JPEG'}
# Visible between dark and bright tiles, and on light and dark pages.
_BACKGROUND = 128


def to_uint8(images: np.ndarray) -> np.ndarray:
  """Quantises images: clips, then rounds half up; used throughout the package.

  Equals `x * 127.5 + 128` for x in [-1, 1], clipped and truncated, of the
  official MaskGit and ADM code.

  Args:
    images: float [...], nominally in [0, 1].

  Returns:
    uint8 [...].

  Raises:
    ValueError: if the images are not float or contain NaN.
  """
  images = np.asarray(images)
  if not np.issubdtype(images.dtype, np.floating):
    raise ValueError(f'images must be float in [0, 1], got {images.dtype}')
  if np.isnan(images).any():
    raise ValueError('images contain NaN')
  return (np.clip(images.astype(np.float32), 0, 1) * 255 + 0.5).astype(np.uint8)


def image_grid(
  images: np.ndarray,
  columns: int | None = None,
  *,
  scale: int = 1,
  padding: int = 1,
) -> np.ndarray:
  """Arranges images row by row on a grey background.

  Args:
    images: float [N, H, W, C] in [0, 1], C of 1 or 3, N >= 1.
    columns: tiles per row; by default the grid is about square.
    scale: output pixels per image pixel and axis.
    padding: background pixels around and between the tiles.

  Returns:
    uint8 [rows * (scale H + padding) + padding, likewise, C]. Tiles after the
    last image are background.

  Raises:
    ValueError: on another shape or type, on NaN, or if `columns` or `scale` is
      below 1 or `padding` is negative.
  """
  images = np.asarray(images)
  if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
    raise ValueError(
      f'images must be [N, H, W, 1 or 3] with N > 0, got {images.shape}'
    )
  columns = math.ceil(len(images) ** 0.5) if columns is None else columns
  if columns < 1 or scale < 1 or padding < 0:
    raise ValueError(
      'columns and scale must be at least 1 and padding at least 0, got'
      f' {columns}, {scale} and {padding}'
    )
  rows = math.ceil(len(images) / columns)
  tiles = to_uint8(images).repeat(scale, axis=1).repeat(scale, axis=2)
  tiles = np.pad(
    tiles,
    ((0, rows * columns - len(tiles)), (0, padding), (0, padding), (0, 0)),
    constant_values=_BACKGROUND,
  )
  _, height, width, channels = tiles.shape
  sheet = tiles.reshape(rows, columns, height, width, channels)
  sheet = sheet.swapaxes(1, 2).reshape(rows * height, columns * width, channels)
  return np.pad(
    sheet,
    ((padding, 0), (padding, 0), (0, 0)),
    constant_values=_BACKGROUND,
  )


def encode_png(pixels: np.ndarray) -> bytes:
  """Encodes pixels uint8 [H, W, 1 or 3] as a PNG file."""
  return _encoded(pixels, 'PNG', optimize=True)


def encode_jpeg(pixels: np.ndarray) -> bytes:
  """Encodes pixels uint8 [H, W, 1 or 3] in Pillow's default quality."""
  return _encoded(pixels, 'JPEG')


def save_picture(path: str | os.PathLike[str], pixels: np.ndarray) -> None:
  """Writes a picture atomically, in the format of its suffix.

  Args:
    path: file whose suffix is one of FORMATS, in any case.
    pixels: uint8 [H, W, 1 or 3].
  """
  kind = FORMATS[pathlib.Path(path).suffix.lower()]
  encode = {'PNG': encode_png, 'JPEG': encode_jpeg}[kind]
  write_atomically(path, encode(pixels))


def _encoded(pixels: np.ndarray, kind: str, **options: bool) -> bytes:
  squeezed = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
  buffer = io.BytesIO()
  PIL.Image.fromarray(squeezed).save(buffer, kind, **options)
  return buffer.getvalue()
