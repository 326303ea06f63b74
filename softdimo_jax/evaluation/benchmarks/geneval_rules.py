"""GenEval's rules: does a picture show what a prompt asks, given detections?

Follows Ghosh et al., "GenEval" (arXiv 2310.11513) and its evaluation code.
Finding objects and naming their colours is left to the caller: a detector and
CLIP at full size, `shapes_judge` for rendered scenes. Boxes are float32
[x0, y0, x1, y1, score], y pointing down.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from softdimo_jax.data.prompts.files import Record

TAGS = (
  'single_object',
  'two_object',
  'counting',
  'colors',
  'position',
  'color_attr',
)
RELATIONS = ('left of', 'right of', 'above', 'below')

# Offsets, in pixels, below which two objects lie in the same place.
_SAME_PLACE = 1e-3
# Share of the centres' distance that an axis must have to name a relation.
_AXIS_SHARE = 0.5

Detections = Mapping[str, np.ndarray]
# (class, indices of detections of the class) -> the colour of each.
ColorsOf = Callable[[str, np.ndarray], Sequence[str]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
  """Thresholds; the defaults are the published ones.

  Attributes:
    threshold: detections count above this score.
    counting_threshold: the same where the tag is "counting".
    max_objects: most detections of a class that count, best first.
    max_overlap: intersection over union from which the weaker of two
      detections is dropped; 1 drops none.
    position_margin: overlap that a relation tolerates, as a share of the sum
      of both objects' extents.
  """

  threshold: float = 0.3
  counting_threshold: float = 0.9
  max_objects: int = 16
  max_overlap: float = 1.0
  position_margin: float = 0.1


OFFICIAL = Rules()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
  """Whether a picture shows what its prompt asks.

  Attributes:
    correct: every rule holds.
    reasons: one sentence for each rule that does not.
    kept: class -> indices of the detections that count, best first; classes
      without any are left out.
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

  All that `include` lists must be there, and nothing that `exclude` lists in
  its number or more. Of each listed class the `count` best detections are
  looked at: all of them need the colour, and all of them the position
  relative to all of the target's. Other objects do not matter.

  Args:
    record: of the prompt, in GenEval's format.
    detections: class -> [N, 5].
    colors_of: is asked for the detections of coloured classes only.
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
  """(boxes of the objects that match an entry, why there are none)."""
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
      return None, f'{name}: nothing there to be {relation}'
    for other in groups[target]:
      for box in boxes:
        if relation not in relations(box, other, rules.position_margin):
          return None, f'{name}: not {relation} the other'
  return boxes, ''


def keep(
  boxes: np.ndarray, threshold: float, rules: Rules = OFFICIAL
) -> np.ndarray:
  """Indices of the detections of one class that count.

  Args:
    boxes: [N, 5].
    threshold: of the score, exclusive.
    rules: how many, and how much overlap.

  Returns:
    int [K], by falling score; of equal scores the later detection is first.
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

  A box includes the pixels of both its borders: its sides are one longer than
  the difference of its coordinates.
  """
  corner = np.maximum(a[:2], b[:2]), np.minimum(a[2:4], b[2:4])
  common = _area(*corner)
  union = _area(a[:2], a[2:4]) + _area(b[:2], b[2:4]) - common
  return float(common / union) if union else 0.0


def relations(
  a: np.ndarray, b: np.ndarray, margin: float = OFFICIAL.position_margin
) -> frozenset[str]:
  """Where object a lies relative to object b.

  The offset of the centres is shortened by `margin` of both extents on each
  axis; an axis names a relation if what remains is over half the distance of
  the centres.

  Args:
    a: box [4+].
    b: box [4+].
    margin: overlap that is tolerated.

  Returns:
    None, one or two of `RELATIONS`.
  """
  a, b = _as_boxes(a)[:4], _as_boxes(b)[:4]
  offset = (a[:2] + a[2:]) / 2 - (b[:2] + b[2:]) / 2
  extents = abs(a[2:] - a[:2]) + abs(b[2:] - b[:2])
  apart = np.maximum(abs(offset) - margin * extents, 0) * np.sign(offset)
  if (abs(apart) < _SAME_PLACE).all():
    return frozenset()
  x, y = apart / np.linalg.norm(offset)
  holds = (-x, x, -y, y)  # In the order of RELATIONS.
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
  """What the colour classifier sees of an object.

  Args:
    image: uint8 [H, W, 3].
    box: [4+]; borders are rounded to whole pixels, halves to even.
    mask: bool [H, W], of the object; elsewhere is background. None shows
      everything.
    background: grey value.

  Returns:
    uint8 [h, w, 3], black outside the image; h or w may be 0.
  """
  if mask is not None:
    image = np.where(mask.astype(bool)[..., None], image, np.uint8(background))
  x0, y0, x1, y1 = (round(float(value)) for value in box[:4])
  height, width = image.shape[:2]
  result = np.zeros((max(y1 - y0, 0), max(x1 - x0, 0), 3), np.uint8)
  top, left = max(y0, 0), max(x0, 0)
  seen = image[top : max(min(y1, height), 0), left : max(min(x1, width), 0)]
  if seen.size:
    rows = slice(top - y0, top - y0 + seen.shape[0])
    columns = slice(left - x0, left - x0 + seen.shape[1])
    result[rows, columns] = seen
  return result


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
  """Accuracy of many pictures.

  Attributes:
    categories: tag -> share of its pictures that are right, tags in their
      usual order.
    overall: mean of the categories' means, however many pictures each has.
    standard_error: of `overall`, pictures being independent.
    num_images: of all categories.
  """

  categories: Mapping[str, float]
  overall: float
  standard_error: float
  num_images: int


def summarise(tags: Sequence[str], correct: Iterable[bool]) -> Scores:
  """Means of each category, and their mean.

  Args:
    tags: category of each picture [N].
    correct: whether it is right [N].

  Raises:
    ValueError: if there is no picture, or the lengths differ.
  """
  correct = np.asarray(list(correct), np.float64)
  if not len(tags) or len(tags) != len(correct):
    raise ValueError(f'{len(tags)} tags for {len(correct)} pictures')
  order = {tag: place for place, tag in enumerate(TAGS)}
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
  """As float32, the detector's precision: thresholds are exclusive."""
  return np.asarray(boxes, np.float32)
