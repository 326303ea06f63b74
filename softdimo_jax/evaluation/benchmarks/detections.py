"""What a detector found in pictures, as JSON: GenEval's rules read it.

A file of JSON lines, one a picture:

  {"filename": "00000/samples/00000.png",
   "detections": {"bench": [[x0, y0, x1, y1, score], ...]},
   "masks": {"bench": [{"size": [H, W], "counts": ...}, ...]},
   "colors": {"bench": ["red", ...]}}

or one JSON list of them. `masks` are COCO's run lengths, a list or its string;
`colors` names the colour of every detection. Both are optional: colours that
are not given are classified, where a prompt asks for them.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from softdimo_jax.errors import UserError

# Bits of a character of COCO's run lengths, and where its characters begin.
_BITS, _FIRST = 5, 48


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
  """Detections of one picture.

  Attributes:
    boxes: class -> float32 [N, 5].
    masks: class -> a bool [H, W] or None for each of the N.
    colors: class -> a name for each of the N; classes may lack.
  """

  boxes: Mapping[str, np.ndarray]
  masks: Mapping[str, Sequence[np.ndarray | None]]
  colors: Mapping[str, Sequence[str]]


def read_detections(path: str | os.PathLike[str]) -> dict[str, Picture]:
  """Pictures by file name.

  Raises:
    UserError: if the file cannot be read, or a record is of another form;
      says which and what is wrong.
  """
  pictures = {}
  for number, record in enumerate(_records(path), start=1):
    try:
      name = record['filename']
      picture = _picture(record)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as e:
      reason = f'lacks {e}' if isinstance(e, KeyError) else str(e)
      raise UserError(
        f'record {number} of {path} is no picture with detections: {reason}'
      ) from e
    if name in pictures:
      raise UserError(f'{path} has two records of {name}')
    pictures[name] = picture
  return pictures


def _records(path: str | os.PathLike[str]) -> list[Any]:
  try:
    text = pathlib.Path(path).read_text('utf-8')
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f'detections {path} cannot be read ({error})') from error
  try:
    if text.lstrip().startswith('['):
      return json.loads(text)
    return [json.loads(line) for line in text.splitlines() if line.strip()]
  except json.JSONDecodeError as error:
    raise UserError(
      f'{path} is not JSON, a list or one record a line: {error}'
    ) from error


def _picture(record: Mapping[str, Any]) -> Picture:
  boxes = {
    name: _boxes(name, rows) for name, rows in record['detections'].items()
  }
  masks, colors = record.get('masks', {}), record.get('colors', {})
  for kind, values in (('masks', masks), ('colors', colors)):
    for name, each in values.items():
      count = len(boxes.get(name, ()))
      if len(each) != count:
        raise ValueError(f'{len(each)} {kind} for {count} boxes of {name}')
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
  return boxes


def _mask(value: Mapping[str, Any] | None) -> np.ndarray | None:
  """bool [H, W] of run lengths along columns, zeros first."""
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
  """COCO's compressed run lengths: differences to the last but one."""
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
