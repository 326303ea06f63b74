import io
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from softdimo_jax.data.images import pixels

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
LEVELS = COLOURS[..., 0]


def encode(image: PIL.Image.Image, kind: str = 'PNG', **options) -> bytes:
  buffer = io.BytesIO()
  image.save(buffer, kind, **options)
  return buffer.getvalue()


def ramp(height: int, width: int, channels: int = 1) -> np.ndarray:
  """Every pixel tells its place: row 16 r + column c."""
  rows, columns = np.mgrid[:height, :width]
  image = (16 * rows + columns).astype(np.uint8)[..., None]
  return image.repeat(channels, axis=-1)


def test_colours_are_those_of_the_file():
  image = PIL.Image.fromarray(COLOURS)
  np.testing.assert_array_equal(pixels.decode(encode(image)), COLOURS)
  lossless = encode(image, 'WEBP', lossless=True)
  np.testing.assert_array_equal(pixels.decode(lossless), COLOURS)


@pytest.mark.parametrize('channels', [1, 3])
def test_grey_and_palette(channels):
  expected = LEVELS[..., None].repeat(channels, axis=-1)
  grey = PIL.Image.fromarray(LEVELS)
  palette = PIL.Image.fromarray(LEVELS).convert('P')
  for image in (grey, palette):
    decoded = pixels.decode(encode(image), channels)
    np.testing.assert_array_equal(decoded, expected)


def test_sixteen_bits_are_scaled_not_clipped():
  levels = np.array([[0, 256, 257, 1000], [32768, 65000, 65534, 65535]])
  data = encode(PIL.Image.fromarray(levels.astype(np.uint16)))
  expected = np.round(levels / 257).astype(np.uint8)[..., None]
  np.testing.assert_array_equal(pixels.decode(data, 1), expected)
  np.testing.assert_array_equal(
    pixels.decode(data, 3), expected.repeat(3, axis=-1)
  )


def test_transparency_lies_on_white():
  alpha = np.zeros((6, 8, 1), np.uint8)
  alpha[:3] = 255
  image = PIL.Image.fromarray(np.concatenate([COLOURS, alpha], axis=-1))
  decoded = pixels.decode(encode(image))
  np.testing.assert_array_equal(decoded[:3], COLOURS[:3])
  assert (decoded[3:] == 255).all()


def chunk(kind: bytes, data: bytes) -> bytes:
  check = struct.pack('>I', zlib.crc32(kind + data))
  return struct.pack('>I', len(data)) + kind + data + check


def png(depth: int, kind: int, row: bytes, transparent: bytes) -> bytes:
  """Two pixels side by side."""
  header = struct.pack('>IIBBBBB', 2, 1, depth, kind, 0, 0, 0)
  return b'\x89PNG\r\n\x1a\n' + b''.join(
    chunk(*part)
    for part in (
      (b'IHDR', header),
      (b'tRNS', transparent),
      (b'IDAT', zlib.compress(b'\0' + row)),
      (b'IEND', b''),
    )
  )


@pytest.mark.parametrize(
  ('depth', 'kind', 'row', 'transparent', 'other'),
  [
    (2, 0, bytes([0b01100000]), (1,), [170] * 3),
    (4, 0, bytes([0x37]), (3,), [119] * 3),
    (8, 0, bytes([3, 7]), (3,), [7] * 3),
    (16, 0, struct.pack('>2H', 1000, 40000), (1000,), [156] * 3),
    (8, 2, bytes([3, 4, 5, 7, 8, 9]), (3, 4, 5), [7, 8, 9]),
    (
      16,
      2,
      struct.pack('>6H', 1000, 2000, 3000, 40000, 1, 2),
      (1000, 2000, 3000),
      [156, 0, 0],
    ),
  ],
)
def test_a_transparent_level_lies_on_white(
  depth, kind, row, transparent, other
):
  levels = struct.pack(f'>{len(transparent)}H', *transparent)
  decoded = pixels.decode(png(depth, kind, row, levels))
  assert decoded[0].tolist() == [[255, 255, 255], other]


@pytest.mark.parametrize('orientation', range(9))
def test_turns_are_those_of_pillow(orientation):
  exif = PIL.Image.Exif()
  exif[274] = orientation
  data = encode(PIL.Image.fromarray(COLOURS), exif=exif)
  with PIL.Image.open(io.BytesIO(data)) as image:
    expected = np.asarray(PIL.ImageOps.exif_transpose(image))
  np.testing.assert_array_equal(pixels.decode(data), expected)


@pytest.mark.parametrize('mode', ['RGB', 'RGBA', 'LA', 'P', 'CMYK', 'I;16'])
def test_bands_are_converted_like_the_whole(mode, monkeypatch):
  rng = np.random.default_rng(0)
  if mode == 'I;16':
    image = PIL.Image.fromarray(rng.integers(0, 2**16, (9, 7), np.uint16))
  else:
    image = PIL.Image.fromarray(rng.integers(0, 256, (9, 7, 4), np.uint8))
    image = image.convert('RGB' if mode in 'P CMYK' else 'RGBA').convert(mode)
  data = encode(image, 'TIFF' if mode == 'CMYK' else 'PNG')
  monkeypatch.setattr(pixels, '_FORMATS', ('PNG', 'TIFF'))
  whole = pixels.decode(data)
  monkeypatch.setattr(pixels, '_BAND', 14)
  np.testing.assert_array_equal(pixels.decode(data), whole)


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'WEBP'])
def test_the_exif_orientation_is_applied(kind):
  image = PIL.Image.new('RGB', (16, 32))
  image.paste((255, 255, 255), (0, 0, 16, 16))  # the upper half
  exif = image.getexif()
  exif[274] = 6  # turn clockwise
  decoded = pixels.decode(encode(image, kind, exif=exif))
  assert decoded.shape == (16, 32, 3)
  assert decoded[8, 24, 0] > 200 and decoded[8, 8, 0] < 50


def test_damaged_exif_does_not_matter():
  image = PIL.Image.fromarray(COLOURS)
  decoded = pixels.decode(encode(image, exif=b'Exif\0\0MM\0*nonsense'))
  np.testing.assert_array_equal(decoded, COLOURS)


@pytest.mark.parametrize('kind', ['PNG', 'WEBP'])
def test_animations_are_refused(kind):
  image = PIL.Image.fromarray(COLOURS)
  data = encode(
    image, kind, save_all=True, append_images=[PIL.Image.new('RGB', (8, 6))]
  )
  with pytest.raises(pixels.CorruptImage, match='an animation of 2 frames'):
    pixels.decode(data)


def test_only_the_first_picture_of_an_mpo_file_is_the_image():
  other = PIL.Image.new('RGB', (64, 64))
  first = PIL.Image.new('RGB', (64, 64), 'white')
  data = encode(first, 'MPO', save_all=True, append_images=[other])
  assert pixels.decode(data).min() > 250


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch):
  monkeypatch.setattr(pixels, '_MOST_PIXELS', 47)
  with pytest.raises(pixels.CorruptImage, match='8x6 pixels are more than 47'):
    pixels.decode(encode(PIL.Image.fromarray(COLOURS)))


def test_large_jpegs_are_shrunk_where_they_are_resized(monkeypatch):
  monkeypatch.setattr(pixels, '_MOST_PIXELS', 32 * 24)
  for side, expected in ((24, 24), (64, 16), (128, 16)):
    data = encode(PIL.Image.new('RGB', (side, side), 'red'), 'JPEG')
    assert pixels.decode(data, shrink=True).shape == (expected, expected, 3)
  with pytest.raises(pixels.CorruptImage, match='128x128 pixels are more'):
    pixels.decode(data)
  for options in ({'kind': 'PNG'}, {'kind': 'JPEG', 'progressive': True}):
    data = encode(PIL.Image.new('RGB', (128, 128)), **options)
    with pytest.raises(pixels.CorruptImage, match='128x128 pixels are more'):
      pixels.decode(data, shrink=True)


def test_cmyk_becomes_rgb():
  image = PIL.Image.new('CMYK', (8, 8), (0, 255, 255, 0))
  red = pixels.decode(encode(image, 'JPEG', quality=95))
  assert red.shape == (8, 8, 3)
  assert (red[..., 0] > 230).all() and (red[..., 1:] < 40).all()


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'WEBP'])
def test_a_file_cut_short_is_corrupt(kind):
  noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
  data = encode(PIL.Image.fromarray(noise), kind)
  pixels.decode(data)
  for part in (data[: len(data) // 2], data[:20], b'', b'no image'):
    with pytest.raises(pixels.CorruptImage):
      pixels.decode(part)


def test_other_formats_are_not_tried():
  gif = encode(PIL.Image.fromarray(LEVELS), 'GIF')
  with pytest.raises(pixels.CorruptImage, match='not a JPEG or PNG or WEBP'):
    pixels.decode(gif)


def test_float_range():
  assert pixels.to_float(np.array([0, 51, 255], np.uint8)).tolist() == [
    0.0,
    np.float32(0.2),
    1.0,
  ]


@pytest.mark.parametrize(
  ('shape', 'expected'),
  [
    ((30, 20), (12, 8)),
    ((20, 33), (8, 13)),
    ((8, 9), (8, 9)),
    ((4, 6), (8, 12)),
  ],
)
def test_short_side_is_resized_and_long_side_rounded_down(shape, expected):
  resized = pixels.resize_short_side(ramp(*shape), 8)
  assert resized.shape == (*expected, 1) and resized.dtype == np.uint8


def test_the_target_bounds_the_memory_of_elongated_images():
  line = np.zeros((1, 20_000, 3), np.uint8)
  line[0, 10_000:] = 255
  assert pixels.resize_short_side(line, 8).shape == (8, 256, 3)
  assert pixels.resize_short_side(ramp(1, 32), 8).shape == (8, 256, 1)
  middle = pixels.square(line.swapaxes(0, 1), 8)
  assert middle[0].max() < 32 and middle[-1].min() > 224


def test_shrinking_antialiases():
  stripes = np.zeros((64, 64, 3), np.uint8)
  stripes[:, ::2] = 255
  inner = pixels.resize_short_side(stripes, 8)[2:-2, 2:-2]
  assert (abs(inner.astype(int) - 127.5) < 6).all()


def test_center_crop_is_in_the_middle():
  np.testing.assert_array_equal(
    pixels.center_crop(ramp(4, 8), 4), ramp(4, 8)[:, 2:6]
  )
  # Margins 3 and 5: halves 1.5 and 2.5 both round to 2.
  np.testing.assert_array_equal(
    pixels.center_crop(ramp(7, 9), 4), ramp(7, 9)[2:6, 2:6]
  )


def test_random_crop_reaches_every_place_equally():
  image, rng = ramp(6, 7), np.random.default_rng(0)
  corners = [pixels.random_crop(rng, image, 4)[0, 0, 0] for _ in range(3000)]
  places, counts = np.unique(corners, return_counts=True)
  assert len(places) == 3 * 4
  assert (abs(counts - 250) < 6 * np.sqrt(250)).all()


def test_random_resized_crop_takes_the_share_of_the_area():
  """A ramp keeps its slope: the span that is seen is the side that was cut."""
  image = np.broadcast_to(
    np.arange(200, dtype=np.uint8)[None, :, None], (200, 200, 3)
  )
  rng = np.random.default_rng(0)
  crops = [pixels.random_resized_crop(rng, image, 50) for _ in range(200)]
  spans = np.array([int(c[25, -1, 0]) - int(c[25, 0, 0]) for c in crops])
  shares = ((spans + 4) / 200) ** 2
  assert 0.76 < shares.min() < 0.83 and 0.97 < shares.max() < 1.04
  assert abs(shares.mean() - 0.9) < 0.03


def test_random_resized_crop_of_an_elongated_image_is_its_middle():
  image = ramp(4, 12)
  crop = pixels.random_resized_crop(np.random.default_rng(0), image, 4)
  np.testing.assert_array_equal(crop, image[:, 4:8])


def test_flip_mirrors_half_of_the_images():
  image, rng = ramp(2, 4), np.random.default_rng(0)
  flips = [
    np.array_equal(pixels.random_flip(rng, image), image[:, ::-1])
    for _ in range(1000)
  ]
  assert abs(np.mean(flips) - 0.5) < 0.08


@pytest.mark.parametrize('name', pixels.AUGMENTATIONS)
@pytest.mark.parametrize('channels', [1, 3])
def test_augmentations_make_squares(name, channels):
  rng = np.random.default_rng(0)
  for shape in ((8, 8), (9, 14), (20, 5)):
    image = pixels.AUGMENTATIONS[name](rng, ramp(*shape, channels), 8)
    assert image.shape == (8, 8, channels) and image.dtype == np.uint8
