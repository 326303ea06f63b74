"""Prompt features on disk, so that no text tower runs during training.

Each shard of the cache (data/cache/records.py) covers a range of prompts. A
record holds the prompt's token ids (int32), all features and, up to the end of
the record, its text as UTF-8, which rewards tokenize on their own. The first
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
    texts: the prompts [B].
    ids: int32 [B, T], token ids for the text tower.
    features: float [B, ...] by name.
  """

  texts: Sequence[str]
  ids: np.ndarray
  features: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PromptCacheSpec:
  """Contents of a prompt cache; caches with equal specs are equal.

  Attributes:
    length: T, token ids per prompt.
    features: shapes of the features, by name.
    dtype: type of the features, one of DTYPES.
    null: the prompt of the unconditional branch.
    num_prompts: number of prompts without the unconditional one.
    prompts_per_shard: records per shard; the last shard may have fewer.
    tower: JSON values that identify the text tower.
    tokens: JSON values that identify the tokenizer.
    prompts: JSON values that identify the prompts.
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
    """Number of shards for all records."""
    return -(-(1 + self.num_prompts) // self.prompts_per_shard)

  @property
  def record(self) -> np.dtype:
    """Layout of a record, without its text."""
    features = [
      (name, np.dtype(self.dtype).newbyteorder('<'), tuple(shape))
      for name, shape in self.features.items()
    ]
    return np.dtype([('ids', '<i4', (self.length,)), *features])

  def records(self, shard: int) -> range:
    """Indices of the records in a shard."""
    start = shard * self.prompts_per_shard
    stop = start + self.prompts_per_shard
    return range(start, min(stop, 1 + self.num_prompts))


class PromptCacheWriter(RecordCacheWriter):
  """Writes the shards that a folder lacks."""

  def __init__(self, folder: pathlib.Path, spec: PromptCacheSpec):
    """See `RecordCacheWriter`."""
    super().__init__(folder, spec)
    self._record = spec.record

  def write(self, shard: int, prompts: EncodedPrompts, num_cut: int) -> None:
    """Writes a shard atomically.

    Args:
      shard: number of the shard.
      prompts: the prompts of the shard.
      num_cut: number of prompts that were cut to T ids.

    Raises:
      UserError: if a feature is not finite or overflows the cache's dtype.
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
  """A complete prompt cache; `len` excludes the unconditional prompt."""

  def __init__(self, folder: str | os.PathLike[str]):
    """See `RecordCache`."""
    super().__init__(folder, PromptCacheSpec)

  def __len__(self) -> int:
    return self.spec.num_prompts

  @property
  def num_cut(self) -> int:
    """Number of prompts that were too long for the tower."""
    return sum(notes['num_cut'] for notes in self.notes)

  def check(self, expected: Mapping[str, Any]) -> None:
    """Checks that the cache was written with these settings.

    Args:
      expected: fields of the spec by name.

    Raises:
      UserError: naming the first difference.
    """
    for name, value in expected.items():
      found = getattr(self.spec, name)
      if found != value:
        raise UserError(
          f'prompt cache {self.folder} was made {_DIFFERENCES[name]}: '
          f'{_difference(found, value)}; write a new one with this '
          'configuration to another folder'
        )

  @property
  def null(self) -> EncodedPrompts:
    """The unconditional prompt, as a batch of 1."""
    return self._read(np.zeros(1, int))

  def gather(self, indices: np.ndarray) -> EncodedPrompts:
    """Prompts at int indices [B]; the features are float32."""
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


def _difference(found: Any, expected: Any) -> str:
  """Short description of the first difference."""
  if isinstance(found, dict) and isinstance(expected, dict):
    names = [
      name
      for name in sorted(found.keys() | expected.keys())
      if found.get(name) != expected.get(name)
    ]
    found, expected = found.get(names[0]), expected.get(names[0])
    return f'{names[0]} is {found!r:.80}, not {expected!r:.80}'
  return f'{found!r:.80}, not {expected!r:.80}'
