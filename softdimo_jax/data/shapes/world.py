"""The world of the scenes: colours, shapes and rendered cells."""

import dataclasses
import functools

import numpy as np

from softdimo_jax.errors import UserError

# RGB in [0, 1], far from each other and from the background.
COLORS = {
  'red': (0.9, 0.1, 0.1),
  'green': (0.1, 0.7, 0.15),
  'blue': (0.15, 0.2, 0.95),
  'yellow': (0.95, 0.85, 0.1),
  'purple': (0.75, 0.15, 0.85),
  'cyan': (0.1, 0.8, 0.9),
}
SHAPES = ('circle', 'square', 'triangle', 'cross')
BACKGROUND = 0.965
MAX_COUNT = 4

# Shares of a cell's side. The largest shape, moved by the default offset, stays
# inside its cell, so each patch depends on one object only.
_RADIUS = 0.3875
_OFFSET = 1 / 16
_SUPERSAMPLING = 8
# In units of the radius, chosen so that the four shapes have similar areas.
_CIRCLE_SQUARED = 1.06
_SQUARE_HALF_SIDE = 0.9
_CROSS_ARM, _CROSS_LENGTH = 0.34, 1.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
  """Sizes of the scenes; small ones can be learned on a CPU.

  Attributes:
    grid: cells per row and column, at least 2.
    cell: pixels per side of a cell, even and at least 8.
    offsets: possible offsets (down, right) of an object from the centre of its
      cell, as shares of the cell's side. Each offset adds 24 patches.
    mention_color: probability that a caption states the colour of an object.
    apart: whether two objects lie in opposite halves of the picture (left and
      right, or top and bottom) and counted ones in different quarters. One step
      draws all cells at once: what it must not do is decided by fewer of them,
      and a relation shows in the place of each object alone.
  """

  grid: int = 4
  cell: int = 8
  offsets: tuple[tuple[float, float], ...] = (
    (-_OFFSET, -_OFFSET),
    (_OFFSET, _OFFSET),
  )
  mention_color: float = 0.6
  apart: bool = False

  def __post_init__(self):
    if self.grid < 2:  # Relations need two; so do MAX_COUNT objects.
      raise UserError(
        f'scenes need at least 2 cells per row, got grid={self.grid}'
      )
    if self.cell < 8 or self.cell % 2:
      raise UserError(
        'shapes need cells of an even number of pixels, at least 8, got '
        f'cell={self.cell}'
      )
    if not self.offsets or np.abs(self.offsets).max() > _OFFSET:
      raise UserError(
        f'offsets must be within {_OFFSET} to keep objects in their cells, got '
        f'offsets={self.offsets}'
      )
    if not 0 <= self.mention_color <= 1:
      raise UserError(f'mention_color={self.mention_color} is not in [0, 1]')

  @property
  def size(self) -> int:
    """H = W of an image."""
    return self.grid * self.cell

  def patch_id(self, color: str, shape: str, offset: int) -> int:
    """Index of an object in `patches`; 0 is the empty cell."""
    kind = list(COLORS).index(color) * len(SHAPES) + SHAPES.index(shape)
    return 1 + kind * len(self.offsets) + offset

  def patches(self) -> np.ndarray:
    """The empty cell and every object at every offset.

    float32 [1 + colours shapes offsets, cell, cell, 3] in [0, 1].
    """
    # Configurations hold lists, which cannot be looked up.
    return _patches(self.cell, tuple(map(tuple, self.offsets)))


def coverage(
  shape: str, cell: int, offset: tuple[float, float] = (0, 0)
) -> np.ndarray:
  """Share of each pixel that a shape covers.

  Args:
    shape: one of `SHAPES`.
    cell: pixels per side of the cell.
    offset: (down, right) from the centre, as shares of the cell's side.

  Returns:
    float64 [cell, cell] in [0, 1], from 8 x 8 samples per pixel.
  """
  fine = cell * _SUPERSAMPLING
  axis = (np.arange(fine) + 0.5) / fine - 0.5
  y = (axis[:, None] - offset[0]) / _RADIUS
  x = (axis[None, :] - offset[1]) / _RADIUS
  inside = _inside(shape, y, x)
  blocks = inside.reshape(cell, _SUPERSAMPLING, cell, _SUPERSAMPLING)
  return blocks.mean((1, 3))


def paint(covered: np.ndarray, color: str) -> np.ndarray:
  """Paints a colour over the background.

  Args:
    covered: coverage [..., H, W] in [0, 1].
    color: one of `COLORS`.

  Returns:
    float32 [..., H, W, 3].
  """
  difference = np.array(COLORS[color]) - BACKGROUND
  painted = BACKGROUND + covered[..., None] * difference
  return painted.astype(np.float32)


def _inside(shape: str, y: np.ndarray, x: np.ndarray) -> np.ndarray:
  """Whether points are inside a shape; coordinates in radii."""
  if shape == 'circle':
    return x**2 + y**2 < _CIRCLE_SQUARED
  if shape == 'square':
    return np.maximum(abs(x), abs(y)) < _SQUARE_HALF_SIDE
  if shape == 'triangle':  # pointing up
    return (abs(y) < 1) & (abs(x) < (y + 1) / 2)
  if shape == 'cross':
    near, far = np.minimum(abs(x), abs(y)), np.maximum(abs(x), abs(y))
    return (near < _CROSS_ARM) & (far < _CROSS_LENGTH)
  raise ValueError(f'shape {shape!r} is unknown; choose one of {SHAPES}')


@functools.lru_cache
def _patches(cell: int, offsets: tuple[tuple[float, float], ...]) -> np.ndarray:
  covered = np.stack(
    [[coverage(shape, cell, offset) for offset in offsets] for shape in SHAPES]
  )
  objects = np.stack([paint(covered, color) for color in COLORS])
  objects = objects.reshape(-1, cell, cell, 3)
  patches = np.concatenate([np.full_like(objects[:1], BACKGROUND), objects])
  patches.setflags(write=False)
  return patches
