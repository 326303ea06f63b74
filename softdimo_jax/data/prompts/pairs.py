"""Pairs captions with images: the only place where this is decided.

A table with names or numbers of images pairs by them; other prompts pair with
the images in the natural order of their names, if there are equally many.
"""

import collections
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from absl import logging

from softdimo_jax.data.images.files import SUFFIXES, listed
from softdimo_jax.data.prompts.sources import PromptList
from softdimo_jax.errors import UserError
from softdimo_jax.runtime.files import shown

_WHOLE = re.compile(r'([0-9]+)(?:\.0+)?')
# Prefix and number at the end of a name, e.g. of COCO_val2014_000000000042.
_ENDS = re.compile(r'(.*?)([0-9]+)')


def captions(
  prompts: PromptList, available: Sequence[str], chosen: np.ndarray
) -> list[str]:
  """The caption of each chosen image.

  Args:
    prompts: one prompt per image, with or without `ids`.
    available: names of all images of the set, in natural order.
    chosen: int [N], indices of the images to pair; a subset takes its captions
      along.

  Raises:
    UserError: naming a caption or an image that is missing, double or in doubt.
  """
  double = _first_double(prompts.places)
  if double:
    raise UserError(
      f'{double} of {prompts.where} has several prompts, but an image has one'
    )
  if prompts.ids is not None:
    found = matched(prompts.ids, available, prompts.where, prompts.places)
  else:
    _check_order(prompts, available)
    found = range(len(available))
    print(
      'prompts belong to the images in order: '
      f'{shown(available[0])} to {prompts.texts[0]!r}, ..., '
      f'{shown(available[-1])} to {prompts.texts[-1]!r}'
    )
  return [prompts.texts[found[index]] for index in chosen]


def protocol(prompts: PromptList) -> dict[str, Any]:
  """JSON values that say which captions they are, and how `captions` pairs."""
  by = 'order' if prompts.ids is None else 'names of the images'
  return prompts.fingerprint | {'paired_by': by}


def matched(
  ids: Sequence[str],
  available: Sequence[str],
  where: str,
  places: Sequence[str] | None = None,
) -> list[int]:
  """Index of the caption of each image, by name or number.

  An id is the path of an image, its file name, either without suffix, or the
  number at the end of its name; leading zeros do not count. Warns of ids
  without an image.

  Args:
    ids: name or number of the image of each caption.
    available: names of the images.
    where: origin of the captions.
    places: place of each caption there; by default its id.

  Raises:
    UserError: if an id is double, an image has no caption, or two images have
      the same.
  """
  known = _index(ids, where, places or ids)
  found, image_of = [], {}
  for name in available:
    index = next((known[x] for x in _names(name) if x in known), None)
    if index is None:
      raise UserError(
        f'{where} has no caption for {shown(name)}; it has some for images '
        f'called e.g. {ids[0]}'
      )
    if index in image_of:
      raise UserError(
        f'{shown(image_of[index])} and {shown(name)} are both the image '
        f'{ids[index]} of {where}; rename or remove one'
      )
    image_of[index] = name
    found.append(index)
  missing = [ids[index] for index in range(len(ids)) if index not in image_of]
  if missing:
    logging.warning(
      'captions of %s without an image: %s', where, listed(missing)
    )
  return found


def _index(
  ids: Sequence[str], where: str, places: Sequence[str]
) -> dict[str, int]:
  """Index of a caption by its id, and by its id without suffix."""
  known: dict[str, int] = {}
  for index, name in enumerate(map(_normal, ids)):
    if not name:
      raise UserError(f'{places[index]} of {where} names no image')
    if name in known:
      raise UserError(
        f'{where} has two captions for the image {ids[index]}: '
        f'{places[known[name]]} and {places[index]}; keep one'
      )
    known[name] = index
  for name, index in tuple(known.items()):
    known.setdefault(_bare(name), index)
  return known


def _normal(name: str) -> str:
  whole = _WHOLE.fullmatch(name.strip())
  return str(int(whole[1])) if whole else name.strip().removeprefix('./')


def _bare(name: str) -> str:
  """A name without the suffix of an image."""
  suffix = pathlib.PurePosixPath(name).suffix
  return name.removesuffix(suffix) if suffix.lower() in SUFFIXES else name


def _names(name: str) -> Iterable[str]:
  """Ids by which an image may be called, the most special ones first."""
  file = name.rpartition('/')[2]
  bare = _bare(file)
  number = _ENDS.fullmatch(bare)
  yield from (name, _bare(name), file, bare)
  if number and not number[1][-1:].isalpha():
    yield str(int(number[2]))


def _check_order(prompts: PromptList, available: Sequence[str]) -> None:
  """Refuses prompts and images that may be shifted against each other."""
  if len(prompts) != len(available):
    raise UserError(
      f'{len(available)} images need {len(available)} prompts, but '
      f'{prompts.where} has {len(prompts)}; give one per image in the order of '
      'their names, or a table with the column image_id or file_name'
    )
  if prompts.num_empty:
    raise UserError(
      f'{prompts.where} has {prompts.num_empty} empty prompts, so it is not '
      'certain which images the others belong to; remove or fill them'
    )
  parts = [_ENDS.fullmatch(_bare(name)) for name in available]
  numbers = [int(part[2]) for part in parts if part]
  if len(numbers) < len(parts) or len({part[1] for part in parts if part}) > 1:
    return
  double = _first_double(numbers)
  if double is not None:
    raise UserError(
      f'two images have the number {double}; rename or remove one'
    )
  # Numbers from elsewhere, as of COCO, have gaps; those of a sequence do not.
  missing = sorted(set(range(numbers[0], numbers[-1])) - set(numbers[:-1]))
  if numbers[0] in (0, 1) and missing:
    raise UserError(
      f'images are numbered from {numbers[0]} to {numbers[-1]}, but '
      f'{missing[0]} is missing, so it is not certain which prompts belong to '
      'the others; give a table with the column image_id'
    )


def _first_double(values: Sequence[str] | Sequence[int]) -> str | int | None:
  counts = collections.Counter(values)
  return next((value for value in counts if counts[value] > 1), None)
