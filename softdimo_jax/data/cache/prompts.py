"""Features of prompts on disk: no text tower runs while training.

A shard of the cache (data/cache/records.py) covers a range of the prompts. A
record is the prompt's token ids (int32), every feature, and its text as UTF-8
to the record's end, from which rewards make token ids of their own. The first
record is the prompt of the unconditional branch.
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from softdimo_jax.data.cache.records import (
  CacheKind,
  RecordCache,
  RecordCacheWriter,
)
from softdimo_jax.errors import UserError

DTYPES = ('float32', 'float16')


@dataclasses.dataclass(frozen=True)
class EncodedPrompts:
  """A batch of prompts.

  Attributes:
    texts: B prompts.
    ids: int32 [B, T], as the text tower read them.
    features: float [B, ...] by name.
  """

  texts: Sequence[str]
  ids: np.ndarray
  features: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptCacheSpec:
  """What a prompt cache is of; two caches with equal specs are the same.

  Attributes:
    length: T, token ids of a prompt.
    features: shape of each, by name.
    dtype: of the features, one of DTYPES.
    null: the prompt of the unconditional branch.
    num_prompts: besides that one.
    prompts_per_shard: of all shards but the last.
    tower: JSON values that tell the text tower from another.
    tokens: JSON values that tell how prompts become ids.
    prompts: JSON values that tell the prompts from others.
  """

  kind: ClassVar[CacheKind] = CacheKind(
    name='prompt cache',
    stem='prompts',
    command='encode_prompts',
    verb='encode',
    checksums=False,
  )

  length: int
  features: dict[str, list[int]]
  dtype: str
  null: str
  num_prompts: int
  prompts_per_shard: int
  tower: dict[str, Any]
  tokens: dict[str, Any]
  prompts: dict[str, Any]

  @property
  def num_shards(self) -> int:
    """Enough for all records."""
    return -(-(1 + self.num_prompts) // self.prompts_per_shard)

  @property
  def record(self) -> np.dtype:
    """Layout of a record up to its text."""
    features = [
      (name, np.dtype(self.dtype).newbyteorder('<'), tuple(shape))
      for name, shape in self.features.items()
    ]
    return np.dtype([('ids', '<i4', (self.length,)), *features])

  def records(self, shard: int) -> range:
    """Indices of the records of a shard."""
    start = shard * self.prompts_per_shard
    stop = start + self.prompts_per_shard
    return range(start, min(stop, 1 + self.num_prompts))


class PromptCacheWriter(RecordCacheWriter):
  """Writes the shards that a folder lacks."""

  def __init__(self, folder: pathlib.Path, spec: PromptCacheSpec):
    """As `RecordCacheWriter`."""
    super().__init__(folder, spec)
    self._record = spec.record

  def write(self, shard: int, prompts: EncodedPrompts, num_cut: int) -> None:
    """Writes a shard; it exists under its name only once it is whole.

    Args:
      shard: its number.
      prompts: of the shard.
      num_cut: how many of them were longer than T ids.

    Raises:
      UserError: if a feature is not finite, or does not fit the cache's type.
    """
    records = np.empty(len(prompts.texts), self._record)
    records['ids'] = prompts.ids
    for name, values in prompts.features.items():
      with np.errstate(over='ignore'):
        records[name] = values
      if not np.isfinite(records[name]).all():
        raise UserError(
          f'{name} of some prompts of shard {shard} is not finite as '
          f'{records[name].dtype}: '
          + (
            'choose --dtype=float32'
            if np.isfinite(values).all()
            else 'the weights of the text tower are damaged'
          )
        )
    data = (
      record.tobytes() + text.encode('utf-8')
      for record, text in zip(records, prompts.texts, strict=True)
    )
    super().write(shard, data, num_cut=num_cut)


class PromptCache(RecordCache[PromptCacheSpec]):
  """A complete prompt cache; `len` leaves out the unconditional prompt."""

  def __init__(self, folder: str | os.PathLike[str]):
    """As `RecordCache`."""
    super().__init__(folder, PromptCacheSpec)

  def __len__(self) -> int:
    return self.spec.num_prompts

  @property
  def num_cut(self) -> int:
    """Prompts that were too long for the tower."""
    return sum(notes['num_cut'] for notes in self.notes)

  def check(self, wanted: Mapping[str, Any]) -> None:
    """Compares the cache with what somebody is about to read it as.

    Args:
      wanted: fields of the spec by name.

    Raises:
      UserError: naming what differs.
    """
    for name, value in wanted.items():
      found = getattr(self.spec, name)
      if found != value:
        raise UserError(
          f'prompt cache {self.folder} was made {_DIFFERENCES[name]}: '
          f'{_difference(found, value)}; write one with this configuration '
          'into another folder'
        )

  @property
  def null(self) -> EncodedPrompts:
    """The unconditional prompt, a batch of 1."""
    return self._read(np.zeros(1, int))

  def gather(self, indices: np.ndarray) -> EncodedPrompts:
    """Prompts of int indices [B]; their features are float32."""
    return self._read(np.asarray(indices) + 1)

  def _read(self, indices: np.ndarray) -> EncodedPrompts:
    layout = self.spec.record
    data = [self.read(index) for index in indices]
    fixed = b''.join(record[: layout.itemsize] for record in data)
    records = np.frombuffer(fixed, layout)
    return EncodedPrompts(
      texts=[record[layout.itemsize :].decode('utf-8') for record in data],
      ids=records['ids'].astype(np.int32),
      features={
        name: records[name].astype(np.float32) for name in self.spec.features
      },
    )


_DIFFERENCES = {
  'tower': 'by another text tower',
  'tokens': 'with other token ids',
  'null': 'with another unconditional prompt',
  'features': 'for another model',
  'length': 'for another model',
}


def _difference(found: Any, wanted: Any) -> str:
  """What differs, briefly."""
  if isinstance(found, dict) and isinstance(wanted, dict):
    names = [
      name
      for name in sorted(found.keys() | wanted.keys())
      if found.get(name) != wanted.get(name)
    ]
    found, wanted = found.get(names[0]), wanted.get(names[0])
    return f'{names[0]} is {found!r:.80}, not {wanted!r:.80}'
  return f'{found!r:.80}, not {wanted!r:.80}'
