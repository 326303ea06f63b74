"""Writes GenEval's folder of pictures, and judges it from detections.

ROOT/00000/metadata.jsonl     record of prompt 0
ROOT/00000/samples/00000.png  its pictures
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from softdimo_jax.data.images import files, pixels
from softdimo_jax.data.prompts.records import Record, problem_of
from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.benchmarks import geneval_rules
from softdimo_jax.evaluation.benchmarks.detections import Picture
from softdimo_jax.evaluation.sets.writers import PngExport
from softdimo_jax.runtime.files import (
  read_bytes,
  read_text,
  shown,
  unique_json,
  write_atomically,
)

_METADATA, _SAMPLES = 'metadata.jsonl', 'samples'

# (class, crops of its objects) -> colour of each crop.
Classify = Callable[[str, Sequence[np.ndarray]], Sequence[str]]


class GenEvalExport(PngExport):
  """Pictures in GenEval's folders, `per_prompt` consecutive ones per prompt."""

  def __init__(
    self,
    path: str | os.PathLike[str],
    *,
    records: Sequence[Record],
    per_prompt: int,
    made_by: dict[str, Any],
    images_per_range: int = 500,
  ):
    """Starts or resumes an export; errors as `ImageExport`."""
    self._per_prompt = per_prompt
    super().__init__(
      path,
      num_images=len(records) * per_prompt,
      made_by=made_by | {'records': list(records)},
      images_per_range=images_per_range,
    )
    for index, record in enumerate(records):
      text = json.dumps(record) + '\n'
      write_atomically(self._path / f'{index:05d}' / _METADATA, text)

  def _file(self, index: int) -> pathlib.Path:
    prompt, number = divmod(index, self._per_prompt)
    return self._path / f'{prompt:05d}' / _SAMPLES / f'{number:05d}.png'


@dataclasses.dataclass(frozen=True)
class Sample:
  """One picture of a folder.

  Attributes:
    name: file name relative to the root, as in the detections.
    prompt: name of the prompt's folder.
    record: the prompt's record.
  """

  name: str
  prompt: str
  record: Record


def read_samples(root: str | os.PathLike[str]) -> list[Sample]:
  """Lists the pictures of a folder in GenEval's format.

  Raises:
    UserError: if the folder is not in this format, a prompt has no pictures, or
      a record is invalid.
  """
  root = pathlib.Path(root)
  if not root.is_dir():
    raise UserError(f'{root} is not a folder of pictures')
  folders = [root / x for x in files.subfolders(root) if x.isdecimal()]
  if not folders:
    raise UserError(
      f"{root} is not in GenEval's format: it has no folder 00000 with "
      f'{_METADATA} and {_SAMPLES}'
    )
  _check_numbers(root, [int(folder.name) for folder in folders], 'prompt')
  samples = []
  for folder in folders:
    record = _read_record(folder / _METADATA)
    samples += [
      Sample(f'{folder.name}/{_SAMPLES}/{file}', folder.name, record)
      for file in _pictures(folder / _SAMPLES)
    ]
  return samples


def _pictures(folder: pathlib.Path) -> tuple[str, ...]:
  listing = files.find(folder) if folder.is_dir() else None
  if listing is None or not listing.images:
    raise UserError(f'{folder} contains no pictures (00000.png)')
  stems = [pathlib.Path(name).stem for name in listing.images]
  for name, stem in zip(listing.images, stems, strict=True):
    if not stem.isdecimal():
      raise UserError(
        f'{shown(folder / name)} is not named after the number of a picture'
      )
  _check_numbers(folder, list(map(int, stems)), 'picture')
  if listing.left_out:
    logging.warning(
      '%s: files that are not pictures are left out: %s',
      *(folder, files.listed(listing.left_out)),
    )
  return listing.images


def _check_numbers(
  folder: pathlib.Path, numbers: Sequence[int], what: str
) -> None:
  """Refuses double numbers, and warns of missing ones."""
  twice = next((x for x in numbers if numbers.count(x) > 1), None)
  if twice is not None:
    raise UserError(f'{folder} contains two {what}s with the number {twice}')
  missing = sorted(set(range(max(numbers))) - set(numbers))
  if missing:
    logging.warning(
      '%s: %ss are missing: %s',
      *(folder, what, files.listed(map(str, missing))),
    )


def _read_record(path: pathlib.Path) -> Record:
  try:
    record = unique_json(read_text(path))
  except ValueError as error:
    raise UserError(f'{path} cannot be read as JSON ({error})') from error
  problem = (
    problem_of(record) if isinstance(record, dict) else 'is not an object'
  )
  if problem:
    raise UserError(f'the record {path} {problem}')
  return record


def judge(
  root: str | os.PathLike[str],
  samples: Sequence[Sample],
  pictures: Mapping[str, Picture],
  classify: Classify | None,
  rules: geneval_rules.Rules = geneval_rules.OFFICIAL,
) -> list[geneval_rules.Verdict]:
  """GenEval's verdict on each picture.

  Args:
    root: root of the folder.
    samples: its pictures.
    pictures: detections, by name of the picture.
    classify: classifies colours that the detections do not name; None refuses.
    rules: thresholds.

  Raises:
    UserError: if pictures and detections do not match, or a prompt requires a
      colour that is neither named nor classified.
  """
  _check_same({sample.name for sample in samples}, set(pictures))
  verdicts = []
  for sample in samples:
    picture, path = pictures[sample.name], pathlib.Path(root) / sample.name

    def colors_of(
      name: str,
      indices: np.ndarray,
      picture: Picture = picture,
      path: pathlib.Path = path,
    ) -> Sequence[str]:
      if name in picture.colors:
        return [picture.colors[name][int(index)] for index in indices]
      if classify is None:
        raise UserError(
          f'the detections do not name the colour of {name} in {path}; give '
          '--clip to classify it'
        )
      return classify(name, _crops(path, picture, name, indices))

    verdicts.append(
      geneval_rules.judge(sample.record, picture.boxes, colors_of, rules)
    )
  return verdicts


def _check_same(samples: set[str], detected: set[str]) -> None:
  if samples - detected:
    name = min(samples - detected)
    raise UserError(
      f'the detections have no record for {name}; a picture without detected '
      'objects needs one with empty "detections"'
    )
  if detected - samples:
    raise UserError(
      f'the detections have a record for {min(detected - samples)}, which is '
      'not a picture in the folder'
    )


def _crops(
  path: pathlib.Path, picture: Picture, name: str, indices: np.ndarray
) -> list[np.ndarray]:
  """Crops of objects, with a grey background if they have masks.

  Raises:
    UserError: if the picture cannot be read or a mask differs in size.
  """
  try:
    image = pixels.decode(read_bytes(path))
  except pixels.CorruptImage as error:
    raise UserError(f'{path} cannot be read ({error})') from error
  masks = picture.masks.get(name, [None] * len(picture.boxes[name]))
  for index in indices:
    mask = masks[index]
    if mask is not None and mask.shape != image.shape[:2]:
      raise UserError(
        f'a mask of {name} in {path} is {mask.shape[0]}x{mask.shape[1]}, but '
        f'the picture is {image.shape[0]}x{image.shape[1]}'
      )
  return [
    geneval_rules.crop(image, picture.boxes[name][index], masks[index])
    for index in indices
  ]


def oracle(
  samples: Sequence[Sample], verdicts: Sequence[geneval_rules.Verdict]
) -> tuple[list[str], list[bool], int]:
  """Best of N by the judge itself: whether any picture of a prompt is correct.

  An upper bound for any method of choosing pictures; never report it as one.

  Returns:
    (tag of each prompt, whether any of its pictures is correct, largest number
    of pictures per prompt).
  """
  groups: dict[str, list[int]] = {}
  for index, sample in enumerate(samples):
    groups.setdefault(sample.prompt, []).append(index)
  tags = [samples[group[0]].record['tag'] for group in groups.values()]
  right = [
    any(verdicts[index].correct for index in group) for group in groups.values()
  ]
  return tags, right, max(map(len, groups.values()))
