"""Checksums of the files in a folder: damage is found before it is read."""

import concurrent.futures
import hashlib
import json
import pathlib
import time

from softdimo_jax.runtime import files

FILE = 'checksums.json'
# Orbax writes its times into this file when all else is finished. It says
# nothing about values.
_LEFT_OUT = (FILE, '_CHECKPOINT_METADATA')
_DIGEST_BYTES = 16
_CHUNK_BYTES = 2**22
# A file that was written this recently (ns) may change without another time.
_TICK = 2 * 10**9
# Digests by path, size and time: a start asks for the same files repeatedly.
_KNOWN: dict[tuple[pathlib.Path, int, int], str] = {}


def seal(folder: pathlib.Path) -> None:
  """Stores the checksums of all files in a folder, in a file of it."""
  text = json.dumps(_digests(folder), indent=2, sort_keys=True) + '\n'
  (folder / FILE).write_text(text)


def damage(folder: pathlib.Path) -> str:
  """What is damaged in a folder, in words; '' if nothing is known to be.

  Files that no checksum covers are not checked: earlier versions did not store
  any.

  Args:
    folder: with sealed folders inside, or sealed itself.
  """
  for seal_file in sorted(folder.rglob(FILE)):
    sealed = seal_file.parent
    place = '' if sealed == folder else f'{sealed.relative_to(folder)}/'
    try:
      stored = dict(files.unique_json(seal_file.read_bytes()))
    except (ValueError, TypeError):  # also bytes that are not UTF-8
      return f'{place}{FILE} is not valid JSON'
    found = _digests(sealed)
    for name in sorted(stored):
      if name not in found:
        return f'{place}{name} is missing'
      if found[name] != stored[name]:
        return f'{place}{name} does not match its checksum'
  return ''


def _digests(folder: pathlib.Path) -> dict[str, str]:
  """Digests of all files but the seal, by path relative to the folder."""
  inside = (x for x in folder.rglob('*') if x.name not in _LEFT_OUT)
  files = [x for x in inside if x.is_file()]
  with concurrent.futures.ThreadPoolExecutor() as pool:
    digests = pool.map(_digest, files)
    names = (x.relative_to(folder).as_posix() for x in files)
    return dict(zip(names, digests, strict=True))


def _digest(path: pathlib.Path) -> str:
  """Digest of a file; read once while its size and time stay the same."""
  status = path.stat()
  if time.time_ns() - status.st_mtime_ns < _TICK:
    return _read(path)
  key = (path, status.st_size, status.st_mtime_ns)
  if key not in _KNOWN:
    _KNOWN[key] = _read(path)
  return _KNOWN[key]


def _read(path: pathlib.Path) -> str:
  digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
  with path.open('rb') as file:
    for chunk in iter(lambda: file.read(_CHUNK_BYTES), b''):
      digest.update(chunk)
  return digest.hexdigest()
