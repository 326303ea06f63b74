"""Names of weight files: which of a folder's, and which shards belong to one.

A sharded checkpoint has files `model-00001-of-00002.safetensors` and mostly an
index, `model.safetensors.index.json`, of the file of every entry.
"""

import pathlib
import re
from collections.abc import Iterable

from softdimo_jax.convert.tree import ConversionError
from softdimo_jax.runtime.files import unique_json

EXTENSIONS = ('.pth', '.pt', '.bin', '.ckpt', '.safetensors', '.msgpack')

_HUB_ID = re.compile(r'\w[\w.-]*/\w[\w.-]*(/.+)?')
_INDEX = re.compile(
  r'(?P<stem>.+)(?P<ext>\.\w+)\.index(?P<variant>\.\w+)?\.json'
)
_SHARD = re.compile(
  r'(?P<stem>.+)-(?P<number>\d+)-of-(?P<count>\d+)(?P<ext>\.\w+)'
)
# What trainers store beside the weights.
_OTHERS = re.compile(
  r'(?:training_args|optimizer|scheduler|scaler|random_states|rng_state).*'
)
# Libraries in the names of the same weights in another format.
_LIBRARY = re.compile(r'(?:pytorch|flax)_')


def is_hub_id(name: str) -> bool:
  """Whether a name may be one on the Hub."""
  # org/name.bin is more likely a mistyped path than a repository.
  looks_like_file = name.count('/') < 2 and name.endswith(EXTENSIONS)
  return not looks_like_file and bool(_HUB_ID.fullmatch(name))


def is_weights(name: str) -> bool:
  """Whether a name is that of a weight file, a shard or an index."""
  return _key(name) is not None


def candidates(names: Iterable[str]) -> tuple[list[str], list[str]]:
  """Weight files of a folder or repository.

  Args:
    names: names of the files, with their folders.

  Returns:
    (files to choose from, left out). A sharded checkpoint is represented by its
    index or first shard. Files in subfolders count only if there are no others,
    and other formats of the same weights only if none is safetensors.
  """
  found: dict[tuple[str, str], str] = {}
  # Indices come first, then first shards.
  for name in sorted(
    names, key=lambda name: (not _INDEX.fullmatch(name), name)
  ):
    key = _key(name)
    if key and not _OTHERS.fullmatch(pathlib.PurePosixPath(name).name):
      found.setdefault(key, name)
  tops = {key: name for key, name in found.items() if '/' not in name}
  kept = tops or found
  chosen = [
    name
    for (stem, kind), name in kept.items()
    if kind.startswith('.safetensors')
    or not any(s == stem and k.startswith('.safetensors') for s, k in kept)
  ]
  return sorted(chosen), sorted(set(found.values()) - set(chosen))


def _key(name: str) -> tuple[str, str] | None:
  """(name without the format, format) of a checkpoint; None for other files."""
  sharded = _INDEX.fullmatch(name) or _SHARD.fullmatch(name)
  if sharded:
    variant = sharded.groupdict().get('variant') or ''
    stem, extension = sharded['stem'] + variant, sharded['ext']
  else:
    path = pathlib.PurePosixPath(name)
    stem, extension = str(path.with_suffix('')), path.suffix
  if extension.lower() not in EXTENSIONS:
    return None
  kind = extension.lower() + ('/shards' if sharded else '')
  return _LIBRARY.sub('', stem), kind


def parts(path: pathlib.Path) -> list[pathlib.Path]:
  """All files of a checkpoint, given one file, an index or any shard.

  Raises:
    ConversionError: if an index cannot be read.
  """
  if _INDEX.fullmatch(path.name):
    names = sorted(set(_weight_map(path).values()))
    return [path.parent / pathlib.PurePosixPath(name).name for name in names]
  shard = _SHARD.fullmatch(path.name)
  if shard is None:
    return [path]
  count, digits = int(shard['count']), len(shard['number'])
  return [
    path.with_name(
      f'{shard["stem"]}-{number:0{digits}d}-of-{shard["count"]}{shard["ext"]}'
    )
    for number in range(1, count + 1)
  ]


def names_of(path: pathlib.Path) -> set[str]:
  """Official names in an index; empty for other files."""
  return set(_weight_map(path)) if _INDEX.fullmatch(path.name) else set()


def _weight_map(path: pathlib.Path) -> dict[str, str]:
  try:
    entries = unique_json(path.read_text('utf-8'))['weight_map']
    if not entries or not all(isinstance(x, str) for x in entries.values()):
      raise TypeError(entries)
  except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
    raise ConversionError(
      'not an index of shards: it has no "weight_map" of files'
    ) from error
  return entries
