"""Files of reference statistics that generated images are compared with.

One reader serves the .npz formats of the field and our own. Statistics from
different sources are not interchangeable: ADM's ImageNet statistics change the
second digit of an FID compared with recomputed ones. So every reference records
its provenance, and every reported number should state it.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import os
import pathlib
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.metrics import FeatureStatistics
from softdimo_jax.evaluation.sets import moments
from softdimo_jax.runtime.files import write_atomically

_FEATURES, _IMAGES, _PROTOCOL = 'feats', 'arr_0', 'protocol'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provenance:
  """Origin of a reference.

  Attributes:
    path: path of the file.
    fingerprint: SHA-256 over the names, sizes and checksums of its arrays,
      independent of compression.
    arrays: sorted names of its arrays.
    protocol: how the reference was made; empty unless `save_reference` wrote
      it.
  """

  path: str
  fingerprint: str
  arrays: tuple[str, ...]
  protocol: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
  """Contents of a reference file; missing parts are None.

  Attributes:
    pool: moments of the pooled features, for FID.
    spatial: moments of the spatial features, for sFID.
    features: float32 [N, D], clean-fid's features for KID.
    images: shape (N, H, W, C) of stored images; `image_batches` reads them.
    provenance: origin of the file.
  """

  pool: FeatureStatistics | None = None
  spatial: FeatureStatistics | None = None
  features: np.ndarray | None = None
  images: tuple[int, ...] | None = None
  provenance: Provenance


def read_reference(
  path: str | os.PathLike[str],
  *,
  width: int | None = None,
  spatial_width: int | None = None,
) -> Reference:
  """Reads a reference file.

  Supported formats: guided-diffusion (ADM) with mu, sigma, mu_s, sigma_s,
  arr_0; clean-fid, pytorch-fid, EDM and StyleGAN with mu, sigma, or feats for
  KID; JAX implementations with ref_mu, ref_sigma; and ours. Stored images are
  not loaded.

  Args:
    path: path of the .npz file.
    width: width of our pooled features; None skips the check.
    spatial_width: width of our spatial features, likewise.

  Returns:
    The parts of a reference that the file contains.

  Raises:
    UserError: if the file is missing or damaged, contains none of these arrays
      or invalid moments, or has an unexpected width.
  """
  with (
    _opened(path) as archive,
    _reported(path),
    np.load(path, allow_pickle=False) as arrays,
  ):
    reference = Reference(
      pool=moments.read(arrays, moments.POOL_KEYS),
      spatial=moments.read(arrays, moments.SPATIAL_KEYS),
      features=_features(arrays),
      images=_image_shape(archive),
      provenance=_provenance(path, archive, arrays),
    )
  _check_not_empty(reference)
  for stored, ours in (
    (reference.pool, width),
    (reference.spatial, spatial_width),
  ):
    if stored is not None:
      _check_width(path, 'moments', len(stored.mean), ours)
  if reference.features is not None:
    _check_width(path, 'features', reference.features.shape[1], width)
  return reference


def save_reference(
  path: str | os.PathLike[str],
  *,
  pool: FeatureStatistics,
  spatial: FeatureStatistics | None = None,
  protocol: Mapping[str, Any],
) -> None:
  """Writes moments atomically for `read_reference` and other FID tools.

  Args:
    path: path of the .npz file.
    pool: moments of the pooled features.
    spatial: moments of the spatial features.
    protocol: how they were made, as JSON values: images, their number and
      resizing, network.

  Raises:
    ValueError: if the moments differ in their number of images.
  """
  arrays: dict[str, Any] = {'mu': pool.mean, 'sigma': pool.covariance}
  if spatial is not None:
    if spatial.count != pool.count:
      raise ValueError(f'moments of {pool.count} and {spatial.count} images')
    arrays |= {'mu_s': spatial.mean, 'sigma_s': spatial.covariance}
  if pool.count is not None:
    arrays[moments.COUNT] = np.array(pool.count)
  buffer = io.BytesIO()
  arrays[_PROTOCOL] = np.array(json.dumps(protocol))
  np.savez(buffer, **arrays)
  write_atomically(path, buffer.getvalue())


def image_batches(
  path: str | os.PathLike[str], batch_size: int = 64
) -> Iterator[np.ndarray]:
  """Yields the images of an ADM-style file in order, without loading them all.

  Args:
    path: path of an .npz file with `arr_0`: a reference, or samples.
    batch_size: images per batch, >= 1; the last batch may be smaller.

  Yields:
    uint8 [N, H, W, C].

  Raises:
    UserError: if the file has no such images or ends early.
  """
  with _opened(path) as archive, _reported(path):
    shape = _image_shape(archive)
    if shape is None:
      raise ValueError(f'it contains no images ({_IMAGES})')
    with archive.open(f'{_IMAGES}.npy') as file:
      _read_header(file)
      for start in range(0, shape[0], batch_size):
        batch = (min(batch_size, shape[0] - start), *shape[1:])
        data = file.read(math.prod(batch))
        if len(data) < math.prod(batch):
          raise ValueError(f'{_IMAGES} ends early, at image {start} or later')
        yield np.frombuffer(data, np.uint8).reshape(batch)


# Errors raised for damaged files and invalid arrays.
_BROKEN = (
  ValueError,
  TypeError,
  KeyError,
  EOFError,
  OSError,
  zlib.error,
  zipfile.BadZipFile,
  tokenize.TokenError,  # of a damaged header
)


@contextlib.contextmanager
def _reported(path: str | os.PathLike[str]) -> Iterator[None]:
  """Turns errors of parsers and checks into a UserError about the file."""
  try:
    yield
  except _BROKEN as error:
    raise UserError(f'{path} cannot be used: {error}') from error


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
  if not pathlib.Path(path).is_file():
    raise UserError(f'{path} is missing or not a file')
  try:
    archive = zipfile.ZipFile(path)
  except zipfile.BadZipFile as error:
    raise UserError(f'{path} is not a complete .npz file') from error
  with archive:
    yield archive


def _features(arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
  if _FEATURES not in arrays:
    return None
  features = arrays[_FEATURES]
  if features.ndim != 2 or features.dtype.kind != 'f' or not features.size:
    raise ValueError(
      f'{_FEATURES} must be float [N, D], got {features.dtype} {features.shape}'
    )
  if not np.isfinite(features).all():
    raise ValueError(f'{_FEATURES} contains NaN or infinity')
  return features.astype(np.float32)


def _image_shape(archive: zipfile.ZipFile) -> tuple[int, ...] | None:
  """Checked shape of the stored images, read from the header only."""
  if f'{_IMAGES}.npy' not in archive.namelist():
    return None
  with archive.open(f'{_IMAGES}.npy') as file:
    shape, fortran, dtype = _read_header(file)
  if dtype != np.uint8 or fortran or len(shape) != 4 or shape[3] not in (1, 3):
    raise ValueError(
      f'{_IMAGES} must be uint8 images [N, H, W, 1 or 3], got {dtype} {shape}'
    )
  if min(shape) < 1:
    raise ValueError(f'{_IMAGES} has no pixels: its shape is {shape}')
  # Believed without this, a damaged shape takes all memory.
  if math.prod(shape) > archive.getinfo(f'{_IMAGES}.npy').file_size:
    raise ValueError(f'{_IMAGES} ends early: its shape is {shape}')
  return shape


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
  """(shape, Fortran order, dtype); leaves the file positioned at the data."""
  version = np.lib.format.read_magic(file)
  if version == (1, 0):
    return np.lib.format.read_array_header_1_0(file)
  return np.lib.format.read_array_header_2_0(file)


def _provenance(
  path: str | os.PathLike[str],
  archive: zipfile.ZipFile,
  arrays: Mapping[str, np.ndarray],
) -> Provenance:
  entries = sorted(
    (entry.filename, entry.file_size, entry.CRC) for entry in archive.infolist()
  )
  protocol = json.loads(str(arrays[_PROTOCOL])) if _PROTOCOL in arrays else {}
  _check_protocol(protocol)
  return Provenance(
    path=str(path),
    fingerprint=hashlib.sha256(repr(entries).encode()).hexdigest(),
    arrays=tuple(name.removesuffix('.npy') for name, *_ in entries),
    protocol=protocol,
  )


def _check_protocol(protocol: Any) -> None:
  size = protocol.get('image_size') if isinstance(protocol, dict) else ''
  right = size is None or (
    isinstance(size, list)
    and len(size) == 2
    and all(isinstance(side, int) for side in size)
  )
  if not right or not isinstance(protocol.get('network', {}), dict):
    raise ValueError(f'its {_PROTOCOL} is not one of save_reference')


def _check_not_empty(reference: Reference) -> None:
  parts = (reference.pool, reference.spatial, reference.features)
  if reference.images is None and all(part is None for part in parts):
    raise UserError(
      f'{reference.provenance.path} contains neither moments (mu, sigma) nor '
      'features (feats) nor images (arr_0), but '
      f'{", ".join(reference.provenance.arrays) or "nothing"}'
    )


def _check_width(
  path: str | os.PathLike[str], what: str, theirs: int, ours: int | None
) -> None:
  if ours is not None and theirs != ours:
    raise UserError(
      f'{path} has {what} of {theirs} dimensions, ours have {ours}: was it '
      'made with another network?'
    )
