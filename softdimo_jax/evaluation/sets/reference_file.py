"""Reference statistics: what generated images are compared with.

One reader for the .npz files of the field, and for our own cache. Statistics
of different origin are not exchangeable: ADM's of ImageNet differ from
home-made ones in the second digit of a FID. So every reference carries where
it is from, and every reported number should.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import IO, Any

import numpy as np

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.metrics import FeatureStatistics
from softdimo_jax.runtime.files import write_atomically

# Names of (mean, covariance): ADM, clean-fid, pytorch-fid, EDM and ours; then
# the codes that compute their references in JAX.
_POOL_KEYS = (('mu', 'sigma'), ('ref_mu', 'ref_sigma'))
_SPATIAL_KEYS = (('mu_s', 'sigma_s'),)
_FEATURES, _IMAGES = 'feats', 'arr_0'
_COUNT, _PROTOCOL = 'count', 'protocol'
# Of a covariance from its transpose, relative to its largest entry.
_ASYMMETRY = 1e-4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provenance:
  """Where a reference is from.

  Attributes:
    path: of the file.
    fingerprint: SHA-256 over names, sizes and checksums of all its arrays;
      the same for copies, whatever their compression.
    arrays: names of its arrays, sorted.
    protocol: how it was made, of files that `save_reference` wrote.
  """

  path: str
  fingerprint: str
  arrays: tuple[str, ...]
  protocol: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reference:
  """What a file knows of the reference images; parts it lacks are None.

  Attributes:
    pool: moments of the pooled features, for FID.
    spatial: moments of the spatial features, for sFID.
    features: float32 [N, D], clean-fid's for KID.
    images: shape (N, H, W, C) of stored images; `image_batches` reads them.
    provenance: where all this is from.
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

  Known are those of guided-diffusion (ADM): mu, sigma, mu_s, sigma_s, arr_0;
  of clean-fid, pytorch-fid, EDM and stylegan: mu, sigma, or feats for KID; of
  JAX codes: ref_mu, ref_sigma; and ours. Stored images are not loaded.

  Args:
    path: of the .npz file.
    width: of our pooled features, if they are to be compared.
    spatial_width: of our spatial features, likewise.

  Returns:
    Whatever of a `Reference` the file holds.

  Raises:
    UserError: if it is missing, broken, holds none of these, moments that
      cannot be any, or another width than expected.
  """
  with (
    _opened(path) as archive,
    _understood(path),
    np.load(path, allow_pickle=False) as arrays,
  ):
    reference = Reference(
      pool=_moments(arrays, _POOL_KEYS),
      spatial=_moments(arrays, _SPATIAL_KEYS),
      features=_features(arrays),
      images=_image_shape(archive),
      provenance=_provenance(path, archive, arrays),
    )
  _check_not_empty(reference)
  for moments, ours in (
    (reference.pool, width),
    (reference.spatial, spatial_width),
  ):
    if moments is not None:
      _check_width(path, 'moments', len(moments.mean), ours)
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
  """Writes moments for `read_reference`, atomically; other codes read it, too.

  Args:
    path: of the .npz file.
    pool: moments of the pooled features.
    spatial: moments of the spatial features.
    protocol: how they were made, for JSON: images, their number and
      resizing, network.

  Raises:
    ValueError: if both moments are not of the same number of images.
  """
  arrays = {'mu': pool.mean, 'sigma': pool.covariance}
  if spatial is not None:
    if spatial.count != pool.count:
      raise ValueError(f'moments of {pool.count} and of {spatial.count} images')
    arrays |= {'mu_s': spatial.mean, 'sigma_s': spatial.covariance}
  if pool.count is not None:
    arrays[_COUNT] = np.array(pool.count)
  buffer = io.BytesIO()
  np.savez(buffer, **arrays, **{_PROTOCOL: np.array(json.dumps(protocol))})
  write_atomically(path, buffer.getvalue())


def image_batches(
  path: str | os.PathLike[str], batch_size: int = 64
) -> Iterator[np.ndarray]:
  """Yields the images of an ADM file in order, without loading all of them.

  Args:
    path: of an .npz file with `arr_0`: references, or anybody's samples.
    batch_size: N of every batch but the last, >= 1.

  Yields:
    uint8 [N, H, W, C].

  Raises:
    UserError: if there are no such images or the file ends early.
  """
  with _opened(path) as archive, _understood(path):
    shape = _image_shape(archive)
    if shape is None:
      raise ValueError(f'it holds no images ({_IMAGES})')
    with archive.open(f'{_IMAGES}.npy') as file:
      _read_header(file)
      for start in range(0, shape[0], batch_size):
        batch = (min(batch_size, shape[0] - start), *shape[1:])
        data = file.read(math.prod(batch))
        if len(data) < math.prod(batch):
          raise ValueError(f'{_IMAGES} ends after {start} images or more')
        yield np.frombuffer(data, np.uint8).reshape(batch)


# What reading a broken file or wrong arrays raises.
_BROKEN = (
  ValueError,
  KeyError,
  EOFError,
  OSError,
  zlib.error,
  zipfile.BadZipFile,
)


@contextlib.contextmanager
def _understood(path: str | os.PathLike[str]) -> Iterator[None]:
  """Turns what parsers and checks raise into a sentence about the file."""
  try:
    yield
  except _BROKEN as error:
    raise UserError(f'{path} cannot be used: {error}') from error


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
  if not pathlib.Path(path).is_file():
    raise UserError(f'{path} is missing or no file')
  try:
    archive = zipfile.ZipFile(path)
  except zipfile.BadZipFile as error:
    raise UserError(f'{path} is no whole .npz file') from error
  with archive:
    yield archive


def _moments(
  arrays: Mapping[str, np.ndarray], names: tuple[tuple[str, str], ...]
) -> FeatureStatistics | None:
  """The first pair of names of which the file holds any."""
  for pair in names:
    held = [name for name in pair if name in arrays]
    if len(held) == 1:
      raise ValueError(f'it holds {held[0]} alone of {" and ".join(pair)}')
    if held:
      count = int(arrays[_COUNT]) if _COUNT in arrays else None
      mean, covariance = (arrays[name] for name in pair)
      _check_moments(mean, covariance, pair)
      return FeatureStatistics(
        count=count,
        mean=mean.astype(np.float64),
        covariance=covariance.astype(np.float64),
      )
  return None


def _check_moments(
  mean: np.ndarray, covariance: np.ndarray, names: tuple[str, str]
) -> None:
  both = ' and '.join(names)
  if mean.ndim != 1 or covariance.shape != mean.shape * 2:
    raise ValueError(
      f'{both} should be [D] and [D, D], are {mean.shape} and'
      f' {covariance.shape}'
    )
  if {mean.dtype.kind, covariance.dtype.kind} != {'f'}:
    raise ValueError(f'{both} are {mean.dtype} and {covariance.dtype}')
  if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
    raise ValueError(f'{both} hold NaN or infinity')
  asymmetry = np.abs(covariance - covariance.T).max()
  largest = np.abs(covariance).max()
  if asymmetry > _ASYMMETRY * largest or covariance.diagonal().min() < 0:
    raise ValueError(f'{names[1]} is no covariance')


def _features(arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
  if _FEATURES not in arrays:
    return None
  features = arrays[_FEATURES]
  if features.ndim != 2 or features.dtype.kind != 'f':
    raise ValueError(
      f'{_FEATURES} should be float [N, D], is {features.dtype}'
      f' {features.shape}'
    )
  if not np.isfinite(features).all():
    raise ValueError(f'{_FEATURES} holds NaN or infinity')
  return features.astype(np.float32)


def _image_shape(archive: zipfile.ZipFile) -> tuple[int, ...] | None:
  """Checked shape of the stored images, from the header alone."""
  if f'{_IMAGES}.npy' not in archive.namelist():
    return None
  with archive.open(f'{_IMAGES}.npy') as file:
    shape, fortran, dtype = _read_header(file)
  if dtype != np.uint8 or fortran or len(shape) != 4 or shape[3] not in (1, 3):
    raise ValueError(
      f'{_IMAGES} should be uint8 images [N, H, W, 1 or 3], is {dtype} {shape}'
    )
  return shape


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
  """(shape, Fortran order, type); leaves the file at the data."""
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
  return Provenance(
    path=str(path),
    fingerprint=hashlib.sha256(repr(entries).encode()).hexdigest(),
    arrays=tuple(name.removesuffix('.npy') for name, *_ in entries),
    protocol=protocol,
  )


def _check_not_empty(reference: Reference) -> None:
  parts = (
    reference.pool,
    reference.spatial,
    reference.features,
    reference.images,
  )
  if all(part is None for part in parts):
    raise UserError(
      f'{reference.provenance.path} holds neither moments (mu, sigma), features'
      f' (feats) nor images (arr_0), but'
      f' {", ".join(reference.provenance.arrays) or "nothing"}'
    )


def _check_width(
  path: str | os.PathLike[str], what: str, theirs: int, ours: int | None
) -> None:
  if ours is not None and theirs != ours:
    raise UserError(
      f'{path} has {what} of {theirs} dimensions, where ours are {ours}: made'
      f' by another network?'
    )
