"""Judges pictures of the shapes world: finds the objects, applies the rules.

Nothing is learned: every cell is compared with clean templates of all objects,
then GenEval's rules apply. They tolerate additional objects, and in a world
this small clutter raises the score; `exact` does not tolerate them and is the
metric to rank by.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from softdimo_jax.data.prompts.records import Record
from softdimo_jax.data.shapes.world import (
  BACKGROUND,
  COLORS,
  SHAPES,
  World,
  coverage,
  paint,
)
from softdimo_jax.evaluation.benchmarks import geneval_rules

# Templates are shifted by up to three steps of this share of a cell.
_STEP, _STEPS = 1 / 32, 3
# Blurs of the templates, as standard deviations in sides of a cell. Without
# them a blurred circle could be closer to a sharp square.
_BLURS = (0, 0.1)
# Lowest score of an accepted object: GenEval's strictest threshold, so that the
# object counts in every category.
_LOWEST_SCORE = geneval_rules.OFFICIAL.counting_threshold


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
  """Objects found in one picture.

  Attributes:
    boxes: float32 [N, 5] in GenEval's format, in pixels; scores in (0.9, 1].
    shapes: shape of each object [N].
    colors: colour of each object [N].
    unrecognised: number of cells that are neither empty nor a known object.
  """

  boxes: np.ndarray
  shapes: tuple[str, ...]
  colors: tuple[str, ...]
  unrecognised: int

  @property
  def occupied(self) -> int:
    """Number of cells that are not empty."""
    return len(self.shapes) + self.unrecognised


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShapesVerdicts:
  """Verdicts on N pictures.

  Attributes:
    correct: bool [N], by GenEval's rules.
    exact: bool [N], correct and without additional objects.
    occupied: int [N], cells that are not empty.
    unrecognised: int [N], occupied cells without a known object.
  """

  correct: np.ndarray
  exact: np.ndarray
  occupied: np.ndarray
  unrecognised: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShapesJudge:
  """Finds objects cell by cell.

  A cell is empty if it hardly differs from the background after averaging over
  2 x 2 pixels (which removes noise but not blots). Otherwise it contains the
  object of the nearest template or, if that template fits poorly, an
  unrecognised one.

  Attributes:
    world: sizes of the pictures.
    empty_energy: largest squared difference from the background, summed over
      the pixels and channels of an 8 x 8 cell, of an empty cell. A faint
      object (yellow) has about 20.
    residual: largest squared difference from the nearest template of a
      recognised object, as a share of the template's energy.
  """

  world: World = dataclasses.field(default_factory=World)
  empty_energy: float = 1.5
  residual: float = 0.3

  def find(self, images: np.ndarray) -> list[Found]:
    """Finds the objects of each picture.

    Args:
      images: float [N, H, W, 3] in [0, 1].

    Raises:
      ValueError: if the images have a wrong size or are not finite.
    """
    patches = self._patches(images)  # [N, cells, P, P, 3]
    empty = self._is_empty(patches)
    pixels = patches[~empty].reshape(-1, self.world.cell**2 * 3)
    templates = self._templates
    nearest, distance = _nearest(pixels, templates.pixels)
    share = distance / templates.energy[nearest]
    kinds = np.full(empty.shape, -1)
    shares = np.zeros(empty.shape)
    kinds[~empty], shares[~empty] = nearest, share
    return [
      self._found(*picture)
      for picture in zip(empty, kinds, shares, strict=True)
    ]

  def judge(
    self, images: np.ndarray, records: Sequence[Record]
  ) -> ShapesVerdicts:
    """Judges each picture.

    Args:
      images: float [N, H, W, 3] in [0, 1].
      records: record of each picture [N], in GenEval's format.

    Raises:
      ValueError: as `find`, or if the number of records differs.
    """
    found = self.find(images)
    verdicts = [
      _verdict(picture, record)
      for picture, record in zip(found, records, strict=True)
    ]
    return ShapesVerdicts(
      correct=np.array([correct for correct, _ in verdicts], bool),
      exact=np.array([exact for _, exact in verdicts], bool),
      occupied=np.array([picture.occupied for picture in found], int),
      unrecognised=np.array([picture.unrecognised for picture in found], int),
    )

  def score(
    self, images: np.ndarray, records: Sequence[Record]
  ) -> dict[str, float]:
    """Mean scores over pictures.

    Args:
      images: float [N, H, W, 3] in [0, 1], N >= 1.
      records: record of each picture [N].

    Returns:
      Accuracy per category, by tag; `overall`, their mean, and `exact`,
      likewise; `overall_error` and `exact_error`, their standard errors;
      `occupied` and `unrecognised`, cells per picture; `num_images`.
    """
    verdicts = self.judge(images, records)
    tags = [record['tag'] for record in records]
    lenient = geneval_rules.summarise(tags, verdicts.correct)
    exact = geneval_rules.summarise(tags, verdicts.exact)
    return {
      **lenient.categories,
      'overall': lenient.overall,
      'overall_error': lenient.standard_error,
      'exact': exact.overall,
      'exact_error': exact.standard_error,
      'occupied': float(verdicts.occupied.mean()),
      'unrecognised': float(verdicts.unrecognised.mean()),
      'num_images': len(images),
    }

  @property
  def _templates(self) -> '_Templates':
    return _templates(self.world.cell)

  def _patches(self, images: np.ndarray) -> np.ndarray:
    images = np.asarray(images, np.float32)
    grid, cell, size = self.world.grid, self.world.cell, self.world.size
    if images.shape[1:] != (size, size, 3):
      raise ValueError(
        f'pictures must be [N, {size}, {size}, 3], got {images.shape}'
      )
    if not np.isfinite(images).all():
      raise ValueError('pictures contain NaN or infinity')
    cells = images.reshape(-1, grid, cell, grid, cell, 3)
    return cells.swapaxes(2, 3).reshape(-1, grid**2, cell, cell, 3)

  def _is_empty(self, patches: np.ndarray) -> np.ndarray:
    """Whether each cell is empty: bool [N, cells]."""
    half = self.world.cell // 2
    blocks = patches.reshape(*patches.shape[:2], half, 2, half, 2, 3)
    difference = blocks.mean((3, 5)) - BACKGROUND
    # Each mean represents four pixels; the threshold refers to 64 pixels.
    energy = 4 * np.square(difference).sum((2, 3, 4))
    return energy * 64 / self.world.cell**2 < self.empty_energy

  def _found(
    self, empty: np.ndarray, kinds: np.ndarray, shares: np.ndarray
  ) -> Found:
    """Objects of one picture; all arguments are [cells]."""
    (cells,) = np.nonzero(~empty & (shares < self.residual))
    chosen = kinds[cells]
    corners = np.stack([cells % self.world.grid, cells // self.world.grid], 1)
    boxes = self._templates.boxes[chosen] + self.world.cell * np.tile(
      corners, (1, 2)
    )
    scores = 1 - (1 - _LOWEST_SCORE) * shares[cells] / self.residual
    names = [self._templates.names[kind] for kind in chosen]
    return Found(
      boxes=np.concatenate([boxes, scores[:, None]], 1).astype(np.float32),
      shapes=tuple(shape for shape, _ in names),
      colors=tuple(color for _, color in names),
      unrecognised=int((~empty).sum() - len(cells)),
    )


@dataclasses.dataclass(frozen=True)
class _Templates:
  """All objects at all shifts within a cell, sharp and blurred.

  Attributes:
    pixels: float32 [M, P * P * 3].
    energy: float32 [M], squared difference from the background.
    boxes: float32 [M, 4], in pixels of the cell.
    names: (shape, colour) of each template [M].
  """

  pixels: np.ndarray
  energy: np.ndarray
  boxes: np.ndarray
  names: tuple[tuple[str, str], ...]


@functools.lru_cache
def _templates(cell: int) -> _Templates:
  moves = _STEP * np.arange(-_STEPS, _STEPS + 1)
  pixels, boxes, names = [], [], []
  for shape, down, right in itertools.product(SHAPES, moves, moves):
    covered = coverage(shape, cell, (down, right))
    for blur, color in itertools.product(_BLURS, COLORS):
      blurred = gaussian_filter(covered, blur * cell, mode='constant')
      pixels.append(paint(blurred, color).ravel())
      boxes.append(_box(covered))
      names.append((shape, color))
  stacked = np.stack(pixels)
  energy = np.square(stacked - BACKGROUND).sum(1)
  return _Templates(stacked, energy, np.array(boxes), tuple(names))


def _box(covered: np.ndarray) -> list[float]:
  """[x0, y0, x1, y1] around all pixels that are at least half covered."""
  rows, columns = np.nonzero(covered >= 0.5)
  return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def _nearest(
  pixels: np.ndarray, templates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """(index of the nearest template, squared distance to it), both [K]."""
  norms = np.square(templates).sum(1)
  nearest = (norms - 2 * pixels @ templates.T).argmin(1)
  return nearest, np.square(pixels - templates[nearest]).sum(1)


def _verdict(found: Found, record: Record) -> tuple[bool, bool]:
  """(correct, exact) of one picture."""
  by_shape = {
    shape: np.nonzero(np.array(found.shapes) == shape)[0] for shape in SHAPES
  }
  verdict = geneval_rules.judge(
    record,
    {shape: found.boxes[indices] for shape, indices in by_shape.items()},
    lambda shape, kept: [found.colors[i] for i in by_shape[shape][kept]],
  )
  asked = sum(entry['count'] for entry in record.get('include', ()))
  return verdict.correct, verdict.correct and found.occupied == asked
