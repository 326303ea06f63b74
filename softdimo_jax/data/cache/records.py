"""Records computed once and read by every training: shards on disk.

A folder holds array_record shards and `manifest.json`. A shard covers a fixed
range of what the records are made from and is written whole or not at all, so
writing can stop anywhere and goes on at the first missing shard.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import flax.linen as nn
import grain
import jax
import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter

from softdimo_jax.errors import UserError
from softdimo_jax.runtime.files import write_atomically

MANIFEST = 'manifest.json'
_VERSION = 1
# Grain reads single records at random; compression would only slow it down.
_WRITER_OPTIONS = 'group_size:1,uncompressed'


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheKind:
  """Which records, as files and sentences name them.

  Attributes:
    name: e.g. 'token cache'.
    stem: of the shards' files.
    command: module that writes them.
    verb: what it does, e.g. 'tokenize'.
    checksums: whether readers compare them; where the files are too large for
      that they compare sizes, and array_record finds damage when a record is
      read. Writers always do.
  """

  name: str
  stem: str
  command: str
  verb: str
  checksums: bool = True

  @property
  def again(self) -> str:
    """What to do about a cache that is not whole."""
    return f'run python -m softdimo_jax.{self.command} with this --out again'


class CacheSpec(Protocol):
  """What a cache is of: a dataclass of JSON values.

  Two caches with equal specs are the same.
  """

  kind: ClassVar[CacheKind]

  @property
  def num_shards(self) -> int:
    """Of the whole cache."""


Spec = TypeVar('Spec', bound=CacheSpec)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shard:
  """A finished shard.

  Attributes:
    records: in it.
    size: of its file, in bytes.
    sha256: of its file.
    notes: JSON values, what else is to be known of it.
  """

  records: int
  size: int
  sha256: str
  notes: dict[str, Any]


def shard_file(spec: CacheSpec, shard: int) -> str:
  """Name of a shard's file."""
  return f'{spec.kind.stem}-{shard:05d}-of-{spec.num_shards:05d}.array_record'


def module_facts(module: nn.Module, params: Any) -> dict[str, str]:
  """JSON values that tell a module with its parameters from another.

  Args:
    module: Linen module.
    params: its parameters; names, shapes, types and values count.
  """
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    array = np.asarray(leaf)
    name = jax.tree_util.keystr(path)
    digest.update(f'{name} {array.dtype} {array.shape}\n'.encode())
    digest.update(array.tobytes())
  return {'name': type(module).__name__, 'params_sha256': digest.hexdigest()}


class RecordCacheWriter:
  """Writes the shards that a folder lacks."""

  def __init__(self, folder: pathlib.Path, spec: CacheSpec):
    """Starts a cache or goes on with one; corrupt shards count as missing.

    Args:
      folder: made where needed.
      spec: of the whole cache.

    Raises:
      UserError: if the folder holds a cache of something else, or cannot be
        written to.
    """
    self._folder, self._spec = folder, spec
    self._shards: dict[int, Shard] = {}
    if (folder / MANIFEST).exists():
      found, shards = _read_manifest(folder, type(spec))
      _check_same(folder, found, spec)
      broken = _broken_shards(folder, spec, shards, checksums=True)
      self._shards = {k: v for k, v in shards.items() if k not in broken}
      for partial in folder.glob('.*.partial'):  # of a killed process
        partial.unlink()
    try:
      self._save()
    except OSError as error:
      raise UserError(
        f'{folder} cannot be written to ({error.strerror}); choose another '
        '--out'
      ) from error

  def missing(self) -> list[int]:
    """Shards still to be written, in order."""
    return [k for k in range(self._spec.num_shards) if k not in self._shards]

  def write(self, shard: int, records: Iterable[bytes], **notes: Any) -> None:
    """Writes a shard; it exists under its name only once it is whole.

    Args:
      shard: its number.
      records: in order.
      **notes: JSON values, see `Shard`.
    """
    path = self._folder / shard_file(self._spec, shard)
    partial = path.with_name(f'.{path.name}.partial')
    writer, count = ArrayRecordWriter(str(partial), _WRITER_OPTIONS), 0
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
  """A complete cache, checked when it is opened.

  Attributes:
    folder: of the cache.
    spec: what it holds.
    notes: of the shards, in order.
    num_records: in all shards.
  """

  def __init__(self, folder: str | os.PathLike[str], spec_type: type[Spec]):
    """Opens a folder and looks whether every shard is what was written.

    Args:
      folder: with `manifest.json`.
      spec_type: of the caches that will do.

    Raises:
      UserError: if it is no such cache, not finished, or a shard is missing or
        differs from what was written.
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
    """One record, from any thread.

    Raises:
      UserError: if it is damaged.
    """
    with self._damage_reported():
      return self._source[int(index)]

  @contextlib.contextmanager
  def _damage_reported(self) -> Iterator[None]:
    try:
      yield
    except RuntimeError as error:  # array_record's, of any damage
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
      f'{folder} is no {kind.name} (no {MANIFEST}); write one by python -m '
      f'softdimo_jax.{kind.command}'
    )
  try:
    manifest = json.loads(path.read_text('utf-8'))
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
      f'{path} cannot be read as that of a {kind.name} ({error}); delete '
      f'{folder} and {kind.verb} again'
    ) from error


def _check_same(
  folder: pathlib.Path, found: CacheSpec, wanted: CacheSpec
) -> None:
  before, now = dataclasses.asdict(found), dataclasses.asdict(wanted)
  for name, value in now.items():
    if value != before[name]:
      raise UserError(
        f'{wanted.kind.name} {folder} was begun with {name} '
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
  """Shards of the manifest that are 'missing' or 'corrupt', in order."""

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
