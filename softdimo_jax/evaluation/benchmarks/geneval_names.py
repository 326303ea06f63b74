"""Names in GenEval's prompts and detections: a misspelt one would score 0."""

import difflib
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence

from softdimo_jax.data.prompts.records import Record
from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.benchmarks.colors import COLORS
from softdimo_jax.evaluation.benchmarks.detections import Picture
from softdimo_jax.evaluation.benchmarks.geneval_rules import RELATIONS, TAGS

# GenEval's names of the classes of COCO.
CLASSES = (
  *('person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train'),
  *('truck', 'boat', 'traffic light', 'fire hydrant', 'stop sign'),
  *('parking meter', 'bench', 'bird', 'cat', 'dog', 'horse', 'sheep', 'cow'),
  *('elephant', 'bear', 'zebra', 'giraffe', 'backpack', 'umbrella', 'handbag'),
  *('tie', 'suitcase', 'frisbee', 'skis', 'snowboard', 'sports ball', 'kite'),
  *('baseball bat', 'baseball glove', 'skateboard', 'surfboard'),
  *('tennis racket', 'bottle', 'wine glass', 'cup', 'fork', 'knife', 'spoon'),
  *('bowl', 'banana', 'apple', 'sandwich', 'orange', 'broccoli', 'carrot'),
  *('hot dog', 'pizza', 'donut', 'cake', 'chair', 'couch', 'potted plant'),
  *('bed', 'dining table', 'toilet', 'tv', 'laptop', 'computer mouse'),
  *('tv remote', 'computer keyboard', 'cell phone', 'microwave', 'oven'),
  *('toaster', 'sink', 'refrigerator', 'book', 'clock', 'vase', 'scissors'),
  *('teddy bear', 'hair drier', 'toothbrush'),
)
# Likeness from which a name may be a slip for another one; tags of other
# benchmarks, which have their own, may be more alike.
_CLOSE, _CLOSE_TAG = 0.75, 0.85


def check(
  records: Sequence[Record], pictures: Iterable[Picture] | None = None
) -> None:
  """Checks the names of prompts and of what was detected.

  Classes other than COCO's are welcome if the detections name them. Says on
  stderr which classes no detection names: they count as absent everywhere.

  Args:
    records: of the prompts, in GenEval's format.
    pictures: detections; None before there are any.

  Raises:
    UserError: for a tag, class, colour or relation that is probably misspelt,
      with the nearest known one.
  """
  entries = list(_entries(records))
  wanted = dict.fromkeys(entry['class'] for entry in entries)
  found, named = set(), set()
  if pictures is not None:
    for picture in pictures:
      found |= picture.boxes.keys()
      named |= {x for each in picture.colors.values() for x in each}
    _check_classes(wanted, found)
  for record in records:
    tag = record['tag']
    close = difflib.get_close_matches(tag, TAGS, 1, _CLOSE_TAG)
    if tag not in TAGS and close:
      raise UserError(f'a prompt has the tag {tag!r}; is it {close[0]!r}?')
  for entry in entries:
    if 'color' in entry:
      # CLIP knows GenEval's only; detections that name colours have others.
      others = bool(named) or pictures is None
      _check_known('colour', entry['color'], {*COLORS, *named}, others)
    if entry.get('position'):
      _check_known('relation', entry['position'][0], RELATIONS)
    if pictures is None:
      _check_known('class', entry['class'], CLASSES, others=True)


def nearest(name: str, known: Collection[str]) -> str | None:
  """The known name that `name` is probably meant to be; None without one."""
  plain = {_plain(other): other for other in known}
  close = difflib.get_close_matches(_plain(name), plain, 1, _CLOSE)
  # Swapped letters weigh too much in short names.
  swapped = [x for x in plain if sorted(x) == sorted(_plain(name))]
  if close or swapped:
    return plain[(swapped or close)[0]]
  words = set(_plain(name).split())
  shared = (plain[x] for x in plain if words and words < set(x.split()))
  return next(shared, None)


def _entries(records: Iterable[Record]) -> Iterator[dict]:
  for record in records:
    yield from record.get('include', ())
    yield from record.get('exclude', ())


def _check_classes(wanted: Collection[str], found: Collection[str]) -> None:
  never = [name for name in wanted if name not in found]
  for name in sorted(found):
    meant = nearest(name, never)
    if name not in CLASSES and name not in wanted and meant:
      raise UserError(
        f'the detections name a class {name!r}, the prompts {meant!r}; rename '
        'one of them'
      )
  for name in never:
    if name not in CLASSES:
      meant = nearest(name, {*CLASSES, *found})
      hint = (
        f'is it {meant!r}?'
        if meant
        else 'if the detector knows it, add it to a picture with an empty list'
      )
      raise UserError(
        f'the prompts name a class {name!r}, which neither the detections nor '
        f'COCO have; {hint}'
      )
  if never:
    shown = ', '.join(never[:5]) + (', ...' if never[5:] else '')
    print(
      f'{len(never)} classes of the prompts are in no detection, and count as '
      f'absent: {shown}',
      file=sys.stderr,
    )


def _check_known(
  what: str, name: str, known: Collection[str], others: bool = False
) -> None:
  """Refuses an unknown name; with `others`, only one that is close to one."""
  if name in known:
    return
  meant = nearest(name, known)
  if meant is not None:
    raise UserError(
      f'the prompts name a {what} {name!r}, which is unknown; is it {meant!r}?'
    )
  if not others:
    raise UserError(
      f'the prompts name a {what} {name!r}, which is unknown; known are '
      f'{", ".join(sorted(known))}'
    )


def _plain(name: str) -> str:
  return ' '.join(name.lower().replace('_', ' ').replace('-', ' ').split())
