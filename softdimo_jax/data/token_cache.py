"""Tokens of a whole data set on disk: no image is decoded while training.

A folder holds array_record shards and `manifest.json`. A shard covers a fixed
range of the source's images and is written whole or not at all, so writing
can stop anywhere and goes on at the first missing shard. A record is the
label (int32), whether the image was mirrored (one byte), and the tokens.
"""

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
from typing import Any

import flax.linen as nn
import grain
import jax
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from softdimo_jax.data.batches import Batch, gathered_batches
from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.files import write_atomically

MANIFEST = 'manifest.json'
_VERSION = 1
# Grain reads single records at random; compression would only slow it down.
_WRITER_OPTIONS = 'group_size:1,uncompressed'
_AGAIN = 'run python -m softdimo_jax.tokenize_dataset with this --out again'


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheSpec:
  """What a token cache is of; two caches with equal specs are the same.

  Attributes:
    length: L, positions of an image.
    groups: G, tokens of a position.
    vocab_size: V, codes of a group.
    size: H = W of the images that were tokenized.
    flip: whether every image is there a second time, mirrored.
    num_images: in the source, unreadable ones included.
    images_per_shard: of all shards but the last.
    tokenizer: JSON values that tell the tokenizer from another.
    source: JSON values that tell the images from others.
  """

  length: int
  groups: int
  vocab_size: int
  size: int
  flip: bool
  num_images: int
  images_per_shard: int
  tokenizer: dict[str, Any]
  source: dict[str, Any]

  @property
  def num_shards(self) -> int:
    """Enough for all images."""
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
    """Indices of the images of a shard."""
    start = shard * self.images_per_shard
    return range(start, min(start + self.images_per_shard, self.num_images))

  def file(self, shard: int) -> str:
    """Name of a shard's file."""
    return f'tokens-{shard:05d}-of-{self.num_shards:05d}.array_record'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
  """A finished shard.

  Attributes:
    records: in it.
    sha256: of its file.
    skipped: names of its images that could not be decoded.
  """

  records: int
  sha256: str
  skipped: tuple[str, ...]


def tokenizer_facts(tokenizer: nn.Module, params: Any) -> dict[str, str]:
  """JSON values that tell a tokenizer from another.

  Args:
    tokenizer: Linen module.
    params: its parameters; names, shapes, types and values count.
  """
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    array = np.asarray(leaf)
    name = jax.tree_util.keystr(path)
    digest.update(f'{name} {array.dtype} {array.shape}\n'.encode())
    digest.update(array.tobytes())
  return {
    'name': type(tokenizer).__name__,
    'params_sha256': digest.hexdigest(),
  }


class TokenCacheWriter:
  """Writes the shards that a folder lacks."""

  def __init__(self, folder: pathlib.Path, spec: CacheSpec):
    """Starts a cache or goes on with one; corrupt shards count as missing.

    Args:
      folder: made where needed.
      spec: of the whole cache.

    Raises:
      UserError: if the folder holds a cache of something else.
    """
    self._folder, self._spec = folder, spec
    self._shards: dict[int, Shard] = {}
    if (folder / MANIFEST).exists():
      found, shards = _read_manifest(folder)
      _check_same(folder, found, spec)
      broken = _broken_shards(folder, spec, shards)
      self._shards = {k: v for k, v in shards.items() if k not in broken}
      for partial in folder.glob('.*.partial'):  # of a killed process
        partial.unlink()
    self._save()

  def missing(self) -> list[int]:
    """Shards still to be written, in order."""
    return [k for k in range(self._spec.num_shards) if k not in self._shards]

  def write(
    self,
    shard: int,
    tokens: np.ndarray,
    labels: np.ndarray,
    flipped: np.ndarray,
    skipped: tuple[str, ...] = (),
  ) -> None:
    """Writes a shard; it exists under its name only once it is whole.

    Args:
      shard: its number.
      tokens: int [N, L, G].
      labels: int [N].
      flipped: bool [N].
      skipped: names of the images left out.
    """
    records = np.empty(len(labels), self._spec.record)
    records['tokens'], records['label'] = tokens, labels
    records['flipped'] = flipped
    path = self._folder / self._spec.file(shard)
    partial = path.with_name(f'.{path.name}.partial')
    writer = ArrayRecordWriter(str(partial), _WRITER_OPTIONS)
    for record in records:
      writer.write(record.tobytes())
    writer.close()
    digest = _sha256(partial)
    os.replace(partial, path)
    self._shards[shard] = Shard(
      records=len(records), sha256=digest, skipped=tuple(skipped)
    )
    self._save()

  def _save(self) -> None:
    shards = sorted(self._shards.items())
    manifest = {
      'version': _VERSION,
      'spec': dataclasses.asdict(self._spec),
      'num_records': sum(shard.records for _, shard in shards),
      'shards': {
        str(k): {'file': self._spec.file(k), **dataclasses.asdict(shard)}
        for k, shard in shards
      },
    }
    text = json.dumps(manifest, indent=2) + '\n'
    write_atomically(self._folder / MANIFEST, text)


class TokenCache:
  """A complete token cache, checked when it is opened.

  `cache[i]` is {'tokens': int32 [L, G], 'label': int32 [], 'flipped': bool}.

  Attributes:
    spec: what it holds.
    skipped: names of the images that are not in it.
  """

  def __init__(self, folder: str | os.PathLike[str]):
    """Opens a folder and compares every shard with its checksum.

    Args:
      folder: with `manifest.json`.

    Raises:
      UserError: if it is no cache, not finished, or a shard is missing or
        differs from what was written.
    """
    self._folder = folder = pathlib.Path(folder)
    self.spec, shards = _read_manifest(folder)
    unfinished = self.spec.num_shards - len(shards)
    if unfinished:
      raise UserError(
        f'token cache {folder} lacks {unfinished} of {self.spec.num_shards} '
        f'shards; {_AGAIN}'
      )
    for shard, reason in _broken_shards(folder, self.spec, shards).items():
      path = folder / self.spec.file(shard)
      raise UserError(f'token cache shard {path} is {reason}; {_AGAIN}')
    ordered = [shards[k] for k in range(self.spec.num_shards)]
    self.skipped = tuple(name for shard in ordered for name in shard.skipped)
    self._records = grain.sources.ArrayRecordDataSource(
      [str(folder / self.spec.file(k)) for k in range(self.spec.num_shards)]
    )

  def __len__(self) -> int:
    return len(self._records)

  def __getitem__(self, index: int) -> dict[str, Any]:
    record = np.frombuffer(self._records[index], self.spec.record)[0]
    return {
      'tokens': record['tokens'].astype(np.int32),
      'label': np.int32(record['label']),
      'flipped': bool(record['flipped']),
    }

  def check_tokenizer(self, tokenizer: nn.Module, params: Any) -> None:
    """Raises UserError unless the tokens are this tokenizer's."""
    if self.spec.tokenizer != tokenizer_facts(tokenizer, params):
      raise UserError(
        f'token cache {self._folder} was made by another tokenizer; write one '
        'with this tokenizer into another folder'
      )

  def gather(self, indices: np.ndarray) -> Batch:
    """Indices int [B] -> {'tokens' int32 [B, L, G], 'label' int32 [B]}."""
    data = b''.join(self._records[index] for index in indices)
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


def _read_manifest(
  folder: pathlib.Path,
) -> tuple[CacheSpec, dict[int, Shard]]:
  path = folder / MANIFEST
  if not path.exists():
    raise UserError(
      f'{folder} is no token cache (no {MANIFEST}); write one by python -m '
      'softdimo_jax.tokenize_dataset'
    )
  try:
    manifest = json.loads(path.read_text('utf-8'))
    if manifest['version'] != _VERSION:
      raise ValueError(f'version {manifest["version"]}, not {_VERSION}')
    shards = {
      int(k): Shard(
        records=shard['records'],
        sha256=shard['sha256'],
        skipped=tuple(shard['skipped']),
      )
      for k, shard in manifest['shards'].items()
    }
    return CacheSpec(**manifest['spec']), shards
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f'{path} cannot be read ({error}); delete {folder} and tokenize again'
    ) from error


def _check_same(
  folder: pathlib.Path, found: CacheSpec, wanted: CacheSpec
) -> None:
  before, now = dataclasses.asdict(found), dataclasses.asdict(wanted)
  for name, value in now.items():
    if value != before[name]:
      raise UserError(
        f'token cache {folder} was begun with {name} {before[name]!r}, not '
        f'{value!r}; choose another folder or delete this one'
      )


def _broken_shards(
  folder: pathlib.Path, spec: CacheSpec, shards: dict[int, Shard]
) -> dict[int, str]:
  """Shards of the manifest that are 'missing' or 'corrupt', in order."""

  def reason(shard: int) -> str | None:
    path = folder / spec.file(shard)
    if not path.exists():
      return 'missing'
    return None if _sha256(path) == shards[shard].sha256 else 'corrupt'

  with concurrent.futures.ThreadPoolExecutor() as pool:
    reasons = pool.map(reason, sorted(shards))
    found = zip(sorted(shards), reasons, strict=True)
    return {shard: text for shard, text in found if text}


def _sha256(path: pathlib.Path) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
