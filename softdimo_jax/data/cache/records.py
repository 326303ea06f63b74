"""Shards of records that are computed once and read by every training run.

A folder contains array_record shards and `manifest.json`. Each shard covers a
fixed range of the source and is written atomically, so an interrupted run
resumes at the first missing shard.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import flax.linen as nn
import grain
import jax
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from softdimo_jax.errors import UserError
from softdimo_jax.networks import options
from softdimo_jax.runtime import storage
from softdimo_jax.runtime.files import unique_json, write_atomically

MANIFEST = 'manifest.json'
_VERSION = 1
# Grain reads single records in random order; compression would slow it down.
_WRITER_OPTIONS = 'group_size:1,uncompressed'


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheKind:
  """Names of a kind of cache, for its files and messages.

  Attributes:
    name: e.g. 'token cache'.
    stem: stem of the shards' file names.
    command: module that writes the cache.
    verb: action of the command, e.g. 'tokenize'.
    checksums: whether readers verify checksums, as writers always do. If the
      files are too large for that, readers compare sizes, and array_record
      detects damage when it reads a record.
  """

  name: str
  stem: str
  command: str
  verb: str
  checksums: bool = True

  @property
  def again(self) -> str:
    """Advice for an incomplete cache."""
    return f'run python -m softdimo_jax.{self.command} with this --out again'


class CacheSpec(Protocol):
  """Contents of a cache, a dataclass of JSON values.

  Caches with equal specs are equal.
  """

  kind: ClassVar[CacheKind]
  __dataclass_fields__: ClassVar[dict[str, Any]]

  @property
  def num_shards(self) -> int:
    """Number of shards in the complete cache."""
    ...


Spec = TypeVar('Spec', bound=CacheSpec)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
  """A finished shard.

  Attributes:
    records: number of records.
    size: bytes of its file.
    sha256: digest of its file.
    notes: further JSON values about the shard.
  """

  records: int
  size: int
  sha256: str
  notes: dict[str, Any]


def shard_file(spec: CacheSpec, shard: int) -> str:
  """File name of a shard."""
  return f'{spec.kind.stem}-{shard:05d}-of-{spec.num_shards:05d}.array_record'


def module_fingerprint(module: nn.Module, params: Any) -> dict[str, Any]:
  """JSON values that identify a module with its parameters and options.

  Args:
    module: Linen module.
    params: its parameters; the digest covers names, shapes, types and values.
  """
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    array = np.asarray(leaf)
    name = jax.tree_util.keystr(path)
    digest.update(f'{name} {array.dtype} {array.shape}\n'.encode())
    digest.update(array.tobytes())
  return {
    'name': type(module).__name__,
    'params_sha256': digest.hexdigest(),
    'options': options.described(module),
  }


def same_module(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
  """Whether two fingerprints agree; earlier versions recorded no options."""
  return all(found.get(name) == value for name, value in recorded.items())


class RecordCacheWriter:
  """Writes the shards that a folder lacks."""

  def __init__(self, folder: pathlib.Path, spec: CacheSpec):
    """Starts or resumes a cache; corrupt shards count as missing.

    Args:
      folder: folder of the cache; created if missing.
      spec: spec of the complete cache.

    Raises:
      UserError: if the folder holds a cache with another spec or is not
        writable.
    """
    self._folder, self._spec = folder, spec
    self._shards: dict[int, Shard] = {}
    if (folder / MANIFEST).exists():
      found, shards = _read_manifest(folder, type(spec))
      _check_same(folder, found, spec)
      broken = _broken_shards(folder, spec, shards, checksums=True)
      self._shards = {k: v for k, v in shards.items() if k not in broken}
      for partial in folder.glob('.*.partial'):  # left by a killed process
        partial.unlink()
    self._save()

  def missing(self) -> list[int]:
    """Numbers of the shards that are not written yet, in order."""
    return [k for k in range(self._spec.num_shards) if k not in self._shards]

  def write(self, shard: int, records: Iterable[bytes], **notes: Any) -> None:
    """Writes a shard atomically.

    Args:
      shard: number of the shard.
      records: encoded records, in order.
      **notes: JSON values, see `Shard`.
    """
    path = self._folder / shard_file(self._spec, shard)
    partial = path.with_name(f'.{path.name}.partial')
    count = 0
    with storage.written(path):
      writer = ArrayRecordWriter(str(partial), _WRITER_OPTIONS)
      for record in records:
        writer.write(record)
        count += 1
      writer.close()
      digest, size = _sha256(partial), partial.stat().st_size
      os.replace(partial, path)
    self._shards[shard] = Shard(
      records=count, size=size, sha256=digest, notes=notes
    )
    self._save()

  def _save(self) -> None:
    shards = sorted(self._shards.items())
    manifest = {
      'version': _VERSION,
      'spec': dataclasses.asdict(self._spec),
      'num_records': sum(shard.records for _, shard in shards),
      'shards': {
        str(k): {
          'file': shard_file(self._spec, k),
          **dataclasses.asdict(shard),
        }
        for k, shard in shards
      },
    }
    text = json.dumps(manifest, indent=2) + '\n'
    write_atomically(self._folder / MANIFEST, text)


class RecordCache(Generic[Spec]):
  """A complete cache, verified when it is opened.

  Attributes:
    folder: folder of the cache.
    spec: its contents.
    notes: notes of the shards, in order.
    num_records: number of records in all shards.
  """

  def __init__(self, folder: str | os.PathLike[str], spec_type: type[Spec]):
    """Opens a cache and verifies its shards.

    Args:
      folder: folder with `manifest.json`.
      spec_type: type of the spec.

    Raises:
      UserError: if the folder is not such a cache, or the cache is incomplete,
        or a shard is missing or damaged.
    """
    self.folder = folder = pathlib.Path(folder)
    self.spec, shards = _read_manifest(folder, spec_type)
    kind, count = spec_type.kind, self.spec.num_shards
    if len(shards) < count:
      raise UserError(
        f'{kind.name} {folder} lacks {count - len(shards)} of {count} shards; '
        f'{kind.again}'
      )
    broken = _broken_shards(folder, self.spec, shards, checksums=kind.checksums)
    for shard, reason in broken.items():
      path = folder / shard_file(self.spec, shard)
      raise UserError(f'{kind.name} shard {path} is {reason}; {kind.again}')
    self.notes = tuple(shards[k].notes for k in range(count))
    self.num_records = sum(shard.records for shard in shards.values())
    files = [str(folder / shard_file(self.spec, k)) for k in range(count)]
    with self._damage_reported():
      self._source = grain.sources.ArrayRecordDataSource(files)

  def read(self, index: int) -> bytes:
    """Reads one record; thread-safe.

    Raises:
      UserError: if the record is damaged.
    """
    with self._damage_reported():
      return self._source[int(index)]

  @contextlib.contextmanager
  def _damage_reported(self) -> Iterator[None]:
    try:
      yield
    except RuntimeError as error:  # array_record raises it for any damage
      kind = self.spec.kind
      raise UserError(
        f'{kind.name} {self.folder} is damaged ({error!s:.160}); {kind.again}'
      ) from error


def _read_manifest(
  folder: pathlib.Path, spec_type: type[Spec]
) -> tuple[Spec, dict[int, Shard]]:
  kind, path = spec_type.kind, folder / MANIFEST
  if not path.exists():
    raise UserError(
      f'{folder} is not a {kind.name} (no {MANIFEST}); write one with python '
      f'-m softdimo_jax.{kind.command}'
    )
  try:
    manifest = unique_json(path.read_text('utf-8'))
    if manifest['version'] != _VERSION:
      raise ValueError(f'version {manifest["version"]}, not {_VERSION}')
    shards = {
      int(k): Shard(
        records=shard['records'],
        size=shard['size'],
        sha256=shard['sha256'],
        notes=shard['notes'],
      )
      for k, shard in manifest['shards'].items()
    }
    return spec_type(**manifest['spec']), shards
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(
      f'{path} is not a valid {kind.name} manifest ({error}); delete '
      f'{folder} and {kind.verb} again'
    ) from error


def _check_same(
  folder: pathlib.Path, found: CacheSpec, spec: CacheSpec
) -> None:
  before, now = dataclasses.asdict(found), dataclasses.asdict(spec)
  for name, value in now.items():
    if value != before[name]:
      raise UserError(
        f'{spec.kind.name} {folder} was started with {name} '
        f'{before[name]!r}, not {value!r}; choose another folder or delete '
        'this one'
      )


def _broken_shards(
  folder: pathlib.Path,
  spec: CacheSpec,
  shards: dict[int, Shard],
  *,
  checksums: bool,
) -> dict[int, str]:
  """Shards in the manifest that are 'missing' or 'corrupt', in order."""

  def reason(shard: int) -> str | None:
    path, known = folder / shard_file(spec, shard), shards[shard]
    if not path.exists():
      return 'missing'
    if path.stat().st_size != known.size:
      return 'corrupt'
    if checksums and _sha256(path) != known.sha256:
      return 'corrupt'
    return None

  with concurrent.futures.ThreadPoolExecutor() as pool:
    reasons = pool.map(reason, sorted(shards))
    found = zip(sorted(shards), reasons, strict=True)
    return {shard: text for shard, text in found if text}


def _sha256(path: pathlib.Path) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
