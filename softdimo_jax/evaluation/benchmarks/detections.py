"""Object detections in JSON files, the input of GenEval's rules.

The file has JSON lines, one per picture:

  {"filename": "00000/samples/00000.png",
   "detections": {"bench": [[x0, y0, x1, y1, score], ...]},
   "masks": {"bench": [{"size": [H, W], "counts": ...}, ...]},
   "colors": {"bench": ["red", ...]}}

or is one JSON list of these records. Boxes are corners in pixels. `masks` are
COCO's run lengths, as a list or encoded string; `colors` names the colour of
each detection. Both are optional: missing colours are classified if a prompt
requires them. Other keys are refused.
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from softdimo_jax.data.prompts.records import unknown_key
from softdimo_jax.errors import UserError
from softdimo_jax.runtime.files import read_text, unique_json

_FIELDS = ('filename', 'detections', 'masks', 'colors')
# COCO's run lengths: bits per character, and code of the first character.
_BITS, _FIRST = 5, 48


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
  """Detections of one picture.

  Attributes:
    boxes: class -> float32 [N, 5].
    masks: class -> N masks, each bool [H, W] or None.
    colors: class -> N colour names; classes may be missing.
  """

  boxes: Mapping[str, np.ndarray]
  masks: Mapping[str, Sequence[np.ndarray | None]]
  colors: Mapping[str, Sequence[str]]


def read_detections(path: str | os.PathLike[str]) -> dict[str, Picture]:
  """Reads the detections of all pictures, by file name.

  Raises:
    UserError: if the file cannot be read, naming the first invalid record.
  """
  pictures = {}
  for number, record in enumerate(_records(path), start=1):
    try:
      if unknown := unknown_key(record, _FIELDS):
        raise ValueError(f'it {unknown}')
      name = record['filename']
      if not isinstance(name, str):
        raise ValueError(f'its filename is {name!r}')
      picture = _picture(record)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as e:
      reason = f'lacks {e}' if isinstance(e, KeyError) else str(e)
      raise UserError(
        f'record {number} of {path} is not a picture with detections: {reason}'
      ) from e
    if name in pictures:
      raise UserError(f'{path} has two records for {name}')
    pictures[name] = picture
  if not pictures:
    raise UserError(f'{path} contains no detections')
  _check_pixels(path, pictures.values())
  return pictures


def _check_pixels(
  path: str | os.PathLike[str], pictures: Iterable[Picture]
) -> None:
  """Raises UserError if all boxes are shares of the picture's sides."""
  every = [x[:, :4] for picture in pictures for x in picture.boxes.values()]
  corners = np.concatenate([np.empty((0, 4), np.float32), *every])
  if corners.any() and corners.min() >= 0 and corners.max() <= 1:
    raise UserError(
      f'no box of {path} is larger than a pixel; boxes must be x0, y0, x1, y1 '
      'in pixels, not shares of the width and height'
    )


def _records(path: str | os.PathLike[str]) -> list[Any]:
  text = read_text(path)
  try:
    if text.lstrip().startswith('['):
      return unique_json(text)
    # Not `splitlines`, which also splits at characters that names may contain.
    return [unique_json(line) for line in text.split('\n') if line.strip()]
  except ValueError as error:
    raise UserError(
      f'{path} is neither a JSON list nor JSON lines: {error}'
    ) from error


def _picture(record: Mapping[str, Any]) -> Picture:
  boxes = {
    name: _boxes(name, rows) for name, rows in record['detections'].items()
  }
  masks, colors = record.get('masks', {}), record.get('colors', {})
  for kind, values in (('masks', masks), ('colors', colors)):
    for name, each in values.items():
      count = len(boxes.get(name, ()))
      if not isinstance(each, list):
        raise ValueError(f'{kind} of {name} must be a list')
      if len(each) != count:
        raise ValueError(f'{len(each)} {kind} for {count} boxes of {name}')
  for name, each in colors.items():
    if not all(isinstance(color, str) for color in each):
      raise ValueError(f'colors of {name} must be names')
  return Picture(
    boxes=boxes,
    masks={name: [_mask(x) for x in each] for name, each in masks.items()},
    colors=colors,
  )


def _boxes(name: str, rows: Any) -> np.ndarray:
  boxes = np.array(rows, np.float32)
  if boxes.size == 0:
    return boxes.reshape(0, 5)
  if boxes.ndim != 2 or boxes.shape[1] != 5 or not np.isfinite(boxes).all():
    raise ValueError(
      f'boxes of {name} must be lists of five numbers, x0, y0, x1, y1, score'
    )
  ordered = (boxes[:, :2] <= boxes[:, 2:4]).all()
  if not ordered or boxes[:, 4].min() < 0 or boxes[:, 4].max() > 1:
    raise ValueError(
      f'boxes of {name} must be corners x0 <= x1, y0 <= y1 (not widths and '
      'heights) and a score from 0 to 1'
    )
  return boxes


def _mask(value: Mapping[str, Any] | None) -> np.ndarray | None:
  """bool [H, W] from column-major run lengths, zeros first."""
  if value is None:
    return None
  height, width = value['size']
  counts = value['counts']
  counts = _run_lengths(counts) if isinstance(counts, str) else counts
  if min(counts, default=0) < 0 or sum(counts) != height * width:
    raise ValueError(f'a mask does not fill {height}x{width} pixels')
  flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
  return flat.reshape(width, height).T


def _run_lengths(text: str) -> list[int]:
  """Decodes COCO's string: counts minus the count two places before."""
  counts: list[int] = []
  value = shift = 0
  for character in text:
    bits = ord(character) - _FIRST
    more = bits & (1 << _BITS)
    value |= (bits & ((1 << _BITS) - 1)) << shift
    shift += _BITS
    if more:
      continue
    if bits & (1 << (_BITS - 1)):
      value -= 1 << shift
    counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    value = shift = 0
  return counts
