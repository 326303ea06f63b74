"""Files of the field are read; what cannot be used is named in one sentence."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.metrics import FeatureStatistics, frechet_distance
from softdimo_jax.evaluation.sets.reference_file import (
  image_batches,
  read_reference,
  save_reference,
)


def moments(width, seed=0):
  x = np.random.default_rng(seed).normal(size=(20, width))
  return FeatureStatistics.from_features(x)


def adm_arrays():
  pool, spatial = moments(6), moments(4)
  return {
    'mu': pool.mean,
    'sigma': pool.covariance,
    'mu_s': spatial.mean,
    'sigma_s': spatial.covariance,
    'arr_0': np.arange(5 * 4 * 4 * 3, dtype=np.uint8).reshape(5, 4, 4, 3),
  }


@pytest.fixture
def write(tmp_path):
  def write(save=np.savez, **arrays):
    save(tmp_path / 'reference.npz', **arrays)
    return tmp_path / 'reference.npz'

  return write


def test_adm_file(write):
  path = write(**adm_arrays())
  reference = read_reference(path, width=6, spatial_width=4)
  np.testing.assert_array_equal(reference.pool.mean, moments(6).mean)
  assert frechet_distance(reference.pool, moments(6)) < 1e-9
  assert len(reference.spatial.mean) == 4
  assert reference.images == (5, 4, 4, 3)
  assert reference.features is None
  assert reference.provenance.path == str(path)
  assert reference.provenance.arrays == (
    'arr_0',
    'mu',
    'mu_s',
    'sigma',
    'sigma_s',
  )


@pytest.mark.parametrize('names', [('mu', 'sigma'), ('ref_mu', 'ref_sigma')])
def test_files_of_two_moments(write, names):
  pool = moments(3)
  arrays = {names[0]: pool.mean.astype(np.float32), names[1]: pool.covariance}
  reference = read_reference(write(**arrays))
  assert reference.pool.mean.dtype == np.float64
  np.testing.assert_array_equal(reference.pool.covariance, pool.covariance)
  assert reference.spatial is reference.images is None


def test_cleanfid_features_and_samples(write):
  features = np.ones((7, 3), np.float32)
  assert read_reference(write(feats=features)).features.shape == (7, 3)
  images = np.zeros((2, 8, 8, 3), np.uint8)
  assert read_reference(write(arr_0=images)).images == (2, 8, 8, 3)


def test_what_is_saved_is_read(tmp_path):
  path = tmp_path / 'new' / 'cache.npz'
  protocol = {'images': 'folder', 'num': 20, 'resize': 'tf1'}
  save_reference(path, pool=moments(6), spatial=moments(4), protocol=protocol)
  reference = read_reference(path)
  assert reference.pool.count == reference.spatial.count == 20
  assert reference.provenance.protocol == protocol
  with pytest.raises(ValueError, match='of 20 and 1 images'):
    one = FeatureStatistics.from_features(np.zeros((1, 2)))
    save_reference(path, pool=moments(6), spatial=one, protocol={})


def test_the_fingerprint_is_that_of_the_contents(write, tmp_path):
  arrays = adm_arrays()
  first = read_reference(write(**arrays)).provenance.fingerprint
  again = write(np.savez_compressed, **arrays)
  assert read_reference(again).provenance.fingerprint == first
  arrays['mu'] = arrays['mu'] + 1
  assert read_reference(write(**arrays)).provenance.fingerprint != first


def test_images_are_streamed_in_order(write):
  images = np.random.default_rng(0).integers(0, 256, (400, 32, 32, 3), np.uint8)
  path = write(np.savez_compressed, arr_0=images)
  tracemalloc.start()
  batches = image_batches(path, 64)
  for start, batch in zip(range(0, 400, 64), batches, strict=True):
    assert (batch == images[start : start + 64]).all()
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < images.nbytes


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'sigma': None}, 'contains only mu of mu and sigma'),
    ({'mu': np.zeros(5)}, r'must be \[D\] and \[D, D\], got \(5,\)'),
    ({'mu': np.full(6, np.nan)}, 'mu and sigma contain NaN'),
    ({'mu': np.zeros(6, int)}, 'must be float, got int64 and float64'),
    ({'sigma': -np.eye(6)}, 'sigma is not a covariance'),
    ({'sigma': np.triu(np.ones((6, 6)))}, 'sigma is not a covariance'),
    ({'sigma': np.eye(6) - 0.5}, 'sigma is not a covariance'),
    ({'sigma_s': np.eye(4)[::-1]}, 'sigma_s is not a covariance'),
    ({'sigma_s': None}, 'contains only mu_s'),
    ({'feats': np.zeros(3)}, r'feats must be float \[N, D\]'),
    ({'feats': np.full((3, 2), np.inf)}, 'feats contains NaN'),
    ({'arr_0': np.zeros((2, 4, 4, 3))}, 'arr_0 must be uint8'),
    ({'arr_0': np.zeros((2, 4, 4, 4), np.uint8)}, 'arr_0 must be uint8'),
    ({'mu': np.array([None] * 6)}, 'allow_pickle'),
    ({'count': np.array([5, 5])}, 'scalar'),
    ({'count': np.array(-1)}, 'count is -1'),
    ({'protocol': np.array('[]')}, 'protocol is not one'),
    ({'protocol': np.array('{"image_size": 8}')}, 'protocol is not one'),
    ({'protocol': np.array('{"network": [1]}')}, 'protocol is not one'),
    ({'feats': np.zeros((0, 6))}, r'feats must be float \[N, D\]'),
    ({'arr_0': np.zeros((0, 4, 4, 3), np.uint8)}, 'arr_0 has no pixels'),
  ],
)
def test_bad_arrays(write, change, message):
  arrays = {k: v for k, v in (adm_arrays() | change).items() if v is not None}
  with pytest.raises(UserError, match=message) as caught:
    read_reference(write(**arrays))
  assert 'reference.npz' in str(caught.value)


def test_covariances_of_few_images_that_were_rounded(write):
  features = np.random.default_rng(0).gamma(0.1, size=(20, 200))
  pool = FeatureStatistics.from_features(features)
  path = write(mu=pool.mean, sigma=pool.covariance.astype(np.float32))
  assert read_reference(path).pool is not None


def test_other_widths(write):
  path = write(**adm_arrays())
  with pytest.raises(UserError, match=r'moments of 6 .*, ours have 2048'):
    read_reference(path, width=2048)
  with pytest.raises(UserError, match=r'moments of 4 .*, ours have 2023'):
    read_reference(path, spatial_width=2023)


def test_features_of_another_width(write):
  path = write(feats=np.zeros((4, 3), np.float32))
  with pytest.raises(UserError, match=r'features of 3 .*, ours have 2048'):
    read_reference(path, width=2048)


def test_files_that_are_none(write, tmp_path):
  with pytest.raises(UserError, match='is missing or not a file'):
    read_reference(tmp_path / 'absent.npz')
  (tmp_path / 'text.npz').write_text('mu')
  with pytest.raises(UserError, match=r'is not a complete \.npz file'):
    read_reference(tmp_path / 'text.npz')
  path = write(**adm_arrays())
  path.write_bytes(path.read_bytes()[:-200])
  with pytest.raises(UserError, match=r'is not a complete \.npz file'):
    read_reference(path)
  with pytest.raises(UserError, match=r'neither moments .* but other'):
    read_reference(write(other=np.zeros(3)))


@pytest.mark.parametrize(
  ('old', 'new', 'message'),
  [
    (b'(2, 4, 4, 3), }', b'(9999999, 4,3)}', 'arr_0 must be uint8'),
    (b'(2, 4, 4, 3), }', b'(99999,4,4,3),}', 'arr_0 ends early: its shape'),
    (b'(2, 4, 4, 3), }', b'(-2,4, 4, 3), }', 'arr_0 has no pixels'),
    (b"{'descr'", b"{{descr'", 'cannot be used'),
  ],
)
def test_damaged_shapes_take_no_memory(tmp_path, old, new, message):
  buffer = io.BytesIO()
  np.save(buffer, np.zeros((2, 4, 4, 3), np.uint8))
  with zipfile.ZipFile(tmp_path / 'a.npz', 'w') as archive:
    archive.writestr('arr_0.npy', buffer.getvalue().replace(old, new))
  with pytest.raises(UserError, match=message):
    read_reference(tmp_path / 'a.npz')


def test_corrupt_images(write):
  path = write(arr_0=np.ones((50, 16, 16, 3), np.uint8))
  data = bytearray(path.read_bytes())
  data[3000] ^= 255
  path.write_bytes(data)
  with pytest.raises(UserError, match=r'cannot be used: .*CRC'):
    list(image_batches(path))
  with pytest.raises(UserError, match='it contains no images'):
    list(image_batches(write(mu=np.zeros(3))))
