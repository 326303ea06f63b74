"""GenEval's rules: whether detections in a picture satisfy its prompt.

Follows Ghosh et al., "GenEval" (arXiv 2310.11513) and its evaluation code. The
caller detects objects and names their colours: with a detector and CLIP at full
size, with `scenes_judge` for rendered scenes. Boxes are float32
[x0, y0, x1, y1, score], y pointing down.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from softdimo_jax.data.prompts.records import Record

TAGS = (
  'single_object',
  'two_object',
  'counting',
  'colors',
  'position',
  'color_attr',
)
RELATIONS = ('left of', 'right of', 'above', 'below')

# Offsets in pixels below which two objects have the same position.
_SAME_PLACE = 1e-3
# Share of the centres' distance along an axis above which a relation holds.
_AXIS_SHARE = 0.5

Detections = Mapping[str, np.ndarray]
# (class, indices of detections of the class) -> colour of each detection.
ColorsOf = Callable[[str, np.ndarray], Sequence[str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
  """Thresholds; the defaults are the published ones.

  Attributes:
    threshold: score above which detections count.
    counting_threshold: the same for the tag "counting".
    max_objects: largest number of detections that count per class, best first.
    max_overlap: intersection over union at which the weaker of two detections
      is dropped; 1 drops none.
    position_margin: overlap that a relation tolerates, as a share of the sum of
      both objects' extents.
  """

  threshold: float = 0.3
  counting_threshold: float = 0.9
  max_objects: int = 16
  max_overlap: float = 1.0
  position_margin: float = 0.1


OFFICIAL = Rules()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
  """Whether a picture satisfies its prompt.

  Attributes:
    correct: whether every rule holds.
    reasons: one sentence for each violated rule.
    kept: class -> indices of the detections that count, best first; classes
      without any are omitted.
  """

  correct: bool
  reasons: tuple[str, ...]
  kept: Mapping[str, np.ndarray]


def judge(
  record: Record,
  detections: Detections,
  colors_of: ColorsOf,
  rules: Rules = OFFICIAL,
) -> Verdict:
  """Applies the rules to one picture.

  Each entry of `include` must be present, and for each entry of `exclude` fewer
  objects than its count. The `count` best detections of each included class
  must all have the colour, and the position relative to all of the target's.
  Other objects are ignored.

  Args:
    record: the prompt's record in GenEval's format.
    detections: class -> [N, 5].
    colors_of: called only for the detections of classes with a colour.
    rules: thresholds.
  """
  counting = record['tag'] == 'counting'
  threshold = rules.counting_threshold if counting else rules.threshold
  kept = {
    name: indices
    for name, boxes in detections.items()
    if len(indices := keep(boxes, threshold, rules))
  }
  reasons, groups = [], []
  for entry in record.get('include', ()):
    group, reason = _match(entry, detections, kept, groups, colors_of, rules)
    groups.append(group)
    reasons += [reason] if reason else []
  for entry in record.get('exclude', ()):
    found = len(kept.get(entry['class'], ()))
    if found >= entry['count']:
      name, count = entry['class'], entry['count']
      reasons.append(f'{name}: {found}, must be fewer than {count}')
  return Verdict(correct=not reasons, reasons=tuple(reasons), kept=kept)


def _match(
  entry: Mapping,
  detections: Detections,
  kept: Mapping[str, np.ndarray],
  groups: Sequence[np.ndarray | None],
  colors_of: ColorsOf,
  rules: Rules,
) -> tuple[np.ndarray | None, str]:
  """(boxes of the objects that match an entry or None, reason for None)."""
  name, count = entry['class'], entry['count']
  chosen = kept.get(name, np.zeros(0, int))[:count]
  if len(chosen) < count:
    return None, f'{name}: {len(chosen)}, must be {count} or more'
  if 'color' in entry:
    colors = list(colors_of(name, chosen))
    if colors.count(entry['color']) < count:
      return None, f'{name}: {", ".join(colors)}, must be {entry["color"]}'
  boxes = _as_boxes(detections[name])[chosen]
  if entry.get('position'):
    relation, target = entry['position']
    if groups[target] is None:
      return None, f'{name}: no object to be {relation}'
    for other in groups[target]:
      for box in boxes:
        if relation not in relations(box, other, rules.position_margin):
          return None, f'{name}: not {relation} the other object'
  return boxes, ''


def keep(
  boxes: np.ndarray, threshold: float, rules: Rules = OFFICIAL
) -> np.ndarray:
  """Indices of the detections of one class that count.

  Args:
    boxes: [N, 5].
    threshold: exclusive lower bound of the score.
    rules: limits on number and overlap.

  Returns:
    int [K], by decreasing score; of equal scores the later detection is first.
  """
  boxes = _as_boxes(boxes)
  order = np.argsort(boxes[:, 4], kind='stable')[::-1]
  order = order[boxes[order, 4] > threshold][: rules.max_objects]
  if rules.max_overlap == 1:
    return order
  kept: list[int] = []
  for index in order:
    overlaps = (overlap(boxes[index], boxes[other]) for other in kept)
    if all(value < rules.max_overlap for value in overlaps):
      kept.append(index)
  return np.array(kept, int)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
  """Intersection over union of two boxes [4+], counted in whole pixels.

  A box includes its border pixels on both sides, so a side is one longer than
  the difference of the coordinates.
  """
  corner = np.maximum(a[:2], b[:2]), np.minimum(a[2:4], b[2:4])
  common = _area(*corner)
  union = _area(a[:2], a[2:4]) + _area(b[:2], b[2:4]) - common
  return float(common / union) if union else 0.0


def relations(
  a: np.ndarray, b: np.ndarray, margin: float = OFFICIAL.position_margin
) -> frozenset[str]:
  """Position of object a relative to object b.

  The offset of the centres is shortened by `margin` times both extents on each
  axis; a relation holds if the remainder along its axis exceeds half the
  distance of the centres.

  Args:
    a: box [4+].
    b: box [4+].
    margin: tolerated overlap.

  Returns:
    Zero, one or two of `RELATIONS`.
  """
  a, b = _as_boxes(a)[:4], _as_boxes(b)[:4]
  offset = (a[:2] + a[2:]) / 2 - (b[:2] + b[2:]) / 2
  extents = abs(a[2:] - a[:2]) + abs(b[2:] - b[:2])
  apart = np.maximum(abs(offset) - margin * extents, 0) * np.sign(offset)
  if (abs(apart) < _SAME_PLACE).all():
    return frozenset()
  x, y = apart / np.linalg.norm(offset)
  holds = (-x, x, -y, y)  # in the order of RELATIONS
  return frozenset(
    relation
    for relation, share in zip(RELATIONS, holds, strict=True)
    if share > _AXIS_SHARE
  )


def crop(
  image: np.ndarray,
  box: np.ndarray,
  mask: np.ndarray | None = None,
  background: int = 0x99,
) -> np.ndarray:
  """Crop of an object for the colour classifier.

  Args:
    image: uint8 [H, W, 3].
    box: [4+]; borders are rounded to whole pixels, halves to even.
    mask: bool [H, W], mask of the object; the background is replaced outside
      of it. None keeps the background.
    background: grey value of a replaced background.

  Returns:
    uint8 [h, w, 3], black outside the image; h or w may be 0.
  """
  if mask is not None:
    image = np.where(mask.astype(bool)[..., None], image, np.uint8(background))
  x0, y0, x1, y1 = (round(float(value)) for value in box[:4])
  height, width = image.shape[:2]
  result = np.zeros((max(y1 - y0, 0), max(x1 - x0, 0), 3), np.uint8)
  top, left = max(y0, 0), max(x0, 0)
  visible = image[top : max(min(y1, height), 0), left : max(min(x1, width), 0)]
  if visible.size:
    rows = slice(top - y0, top - y0 + visible.shape[0])
    columns = slice(left - x0, left - x0 + visible.shape[1])
    result[rows, columns] = visible
  return result


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
  """Accuracy over many pictures.

  Attributes:
    categories: tag -> share of correct pictures, with tags in GenEval's order.
    overall: unweighted mean over categories.
    standard_error: standard error of `overall` for independent pictures.
    num_images: pictures in all categories.
  """

  categories: Mapping[str, float]
  overall: float
  standard_error: float
  num_images: int


def summarise(tags: Sequence[str], correct: Iterable[bool]) -> Scores:
  """Accuracy per category and their mean.

  Args:
    tags: category of each picture [N].
    correct: whether each picture is correct [N].

  Raises:
    ValueError: if there are no pictures or the lengths differ.
  """
  correct = np.asarray(list(correct), np.float64)
  if not len(tags) or len(tags) != len(correct):
    raise ValueError(f'{len(tags)} tags for {len(correct)} pictures')
  order = {tag: index for index, tag in enumerate(TAGS)}
  names = sorted(set(tags), key=lambda tag: (order.get(tag, len(TAGS)), tag))
  groups = [correct[np.array(tags) == name] for name in names]
  means = [float(group.mean()) for group in groups]
  variance = sum(
    mean * (1 - mean) / len(group)
    for mean, group in zip(means, groups, strict=True)
  )
  return Scores(
    categories=dict(zip(names, means, strict=True)),
    overall=sum(means) / len(means),
    standard_error=math.sqrt(variance) / len(means),
    num_images=len(correct),
  )


def _area(low: np.ndarray, high: np.ndarray) -> float:
  return float(np.prod(np.maximum(high - low + 1, 0)))


def _as_boxes(boxes: np.ndarray) -> np.ndarray:
  """float32 boxes: exclusive thresholds need the detector's precision."""
  return np.asarray(boxes, np.float32)
