"""Tokens of a data set on disk, so that training decodes no images.

Each shard of the cache (data/cache/records.py) covers a range of the source's
images. A record holds the label (int32), whether the image was mirrored (one
byte), and the tokens.
"""

import dataclasses
import os
import pathlib
from typing import Any, ClassVar

import flax.linen as nn
import grain
import numpy as np

from softdimo_jax.data.batches import gathered_batches
from softdimo_jax.data.cache.records import (
  CacheKind,
  RecordCache,
  RecordCacheWriter,
  module_fingerprint,
  same_module,
)
from softdimo_jax.data.images.source import check_classes
from softdimo_jax.errors import UserError
from softdimo_jax.types import Batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenCacheSpec:
  """Contents of a token cache; caches with equal specs are equal.

  Attributes:
    length: L, positions per image.
    groups: G, tokens per position.
    vocab_size: V, codes per group.
    size: H = W of the tokenized images.
    flip: whether each image is stored a second time, mirrored.
    num_images: images in the source, including unreadable ones.
    images_per_shard: source images per shard; the last shard may have fewer.
    tokenizer: JSON values that identify the tokenizer.
    source: JSON values that identify the images.
    classes: name of the class of each label; empty in caches of versions that
      did not store it.
  """

  kind: ClassVar[CacheKind] = CacheKind(
    name='token cache',
    stem='tokens',
    command='tokenize_dataset',
    verb='tokenize',
  )

  length: int
  groups: int
  vocab_size: int
  size: int
  flip: bool
  num_images: int
  images_per_shard: int
  tokenizer: dict[str, Any]
  source: dict[str, Any]
  classes: list[str] = dataclasses.field(default_factory=list)

  @property
  def num_shards(self) -> int:
    """Number of shards for all images."""
    return -(-self.num_images // self.images_per_shard)

  @property
  def record(self) -> np.dtype:
    """Layout of a record."""
    token = '<u2' if self.vocab_size <= 2**16 else '<i4'
    return np.dtype(
      [
        ('label', '<i4'),
        ('flipped', '?'),
        ('tokens', token, (self.length, self.groups)),
      ]
    )

  def images(self, shard: int) -> range:
    """Indices of a shard's source images."""
    start = shard * self.images_per_shard
    return range(start, min(start + self.images_per_shard, self.num_images))


class TokenCacheWriter(RecordCacheWriter):
  """Writes the shards that a folder lacks."""

  def __init__(self, folder: pathlib.Path, spec: TokenCacheSpec):
    """See `RecordCacheWriter`."""
    super().__init__(folder, spec)
    self._record = spec.record

  def write(
    self,
    shard: int,
    tokens: np.ndarray,
    labels: np.ndarray,
    flipped: np.ndarray,
    skipped: tuple[str, ...] = (),
  ) -> None:
    """Writes a shard atomically.

    Args:
      shard: number of the shard.
      tokens: int [N, L, G].
      labels: int [N].
      flipped: bool [N], whether each image was mirrored.
      skipped: names of unreadable images that were omitted.
    """
    records = np.empty(len(labels), self._record)
    records['tokens'], records['label'] = tokens, labels
    records['flipped'] = flipped
    data = (record.tobytes() for record in records)
    super().write(shard, data, skipped=skipped)


class TokenCache(RecordCache[TokenCacheSpec]):
  """A complete token cache.

  `cache[i]` is {'tokens': int32 [L, G], 'label': int32 [], 'flipped': bool}.

  Attributes:
    skipped: names of unreadable images that were omitted.
  """

  def __init__(self, folder: str | os.PathLike[str]):
    """See `RecordCache`."""
    super().__init__(folder, TokenCacheSpec)
    self.skipped = tuple(
      name for notes in self.notes for name in notes['skipped']
    )

  def __len__(self) -> int:
    return self.num_records

  def __getitem__(self, index: int) -> dict[str, Any]:
    if not 0 <= index < len(self):
      raise IndexError(f'record {index} of {len(self)}')
    record = np.frombuffer(self.read(index), self.spec.record)[0]
    return {
      'tokens': record['tokens'].astype(np.int32),
      'label': np.int32(record['label']),
      'flipped': bool(record['flipped']),
    }

  def check_tokenizer(self, tokenizer: nn.Module, params: Any) -> None:
    """Raises UserError if another tokenizer made the tokens."""
    found = module_fingerprint(tokenizer, params)
    if not same_module(self.spec.tokenizer, found):
      raise UserError(
        f'token cache {self.folder} was made by another tokenizer; write a new '
        'one with this tokenizer to another folder'
      )

  def check_labels(self, num_classes: int) -> None:
    """Checks that all labels are below the generator's number of classes.

    Raises:
      UserError: naming the first class that the generator does not have.
    """
    if self.spec.classes:
      check_classes(str(self.folder), self.spec.classes, num_classes)
      return
    labels = (self[index]['label'] for index in range(len(self)))
    outside = next((x for x in labels if not 0 <= x < num_classes), None)
    if outside is not None:
      raise UserError(
        f'token cache {self.folder} has the label {outside}, but the labels of '
        f'this generator are 0 to {num_classes - 1}'
      )

  def gather(self, indices: np.ndarray) -> Batch:
    """Indices int [B] -> {'tokens': int32 [B, L, G], 'label': int32 [B]}."""
    data = b''.join(self.read(index) for index in indices)
    records = np.frombuffer(data, self.spec.record)
    return {
      'tokens': records['tokens'].astype(np.int32),
      'label': records['label'].astype(np.int32),
    }

  def batches(
    self, batch_size: int, seed: int, rows: np.ndarray | None = None
  ) -> grain.DatasetIterator:
    """Endless shuffled batches; see `batches.gathered_batches`."""
    return gathered_batches(
      len(self),
      self.gather,
      batch_size,
      seed,
      rows,
      grain.ReadOptions(num_threads=4, prefetch_buffer_size=16),
    )
