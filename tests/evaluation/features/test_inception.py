"""Features of sets of images, mostly with a network of two layers."""

import os
import subprocess
import sys

import flax.linen as nn
import jax
import numpy as np
import pytest

from softdimo_jax.convert.rule_weights import rule_params
from softdimo_jax.data.images.pixels import to_float
from softdimo_jax.evaluation import metrics
from softdimo_jax.evaluation.features import inception
from softdimo_jax.evaluation.features.inception import FeatureExtractor
from softdimo_jax.networks.inception import Inception, InceptionOutput

RESOLUTION = 6


class Small(nn.Module):
  """Looks like Inception from outside."""

  resolution: int = RESOLUTION

  @nn.compact
  def features(self, inputs):
    x = nn.relu(nn.Conv(5, (3, 3))(inputs))
    pool = x.mean((1, 2))
    logits = nn.Dense(4)(pool)
    spatial = x[..., :2].reshape(len(x), -1)
    return InceptionOutput(pool, spatial, logits, logits)


def pixels(count, size=8):
  rng = np.random.default_rng(count)
  return rng.integers(0, 256, (count, size, size, 3), np.uint8)


def extractor(**options):
  inputs = np.zeros((1, RESOLUTION, RESOLUTION, 3), np.float32)
  variables = Small().init(jax.random.key(0), inputs, method='features')
  return FeatureExtractor(
    module=Small(), params=variables['params'], **{'batch_size': 16} | options
  )


@pytest.fixture(scope='module')
def small():
  return extractor()


def joined(extract, images):
  """All features of a set: (vectors, spatial, logits)."""
  parts = list(extract.batches(images))
  return tuple(
    np.concatenate([getattr(part, name) for part in parts])
    for name in ('vectors', 'spatial', 'logits')
  )


def assert_same(found, expected):
  for x, y in zip(found, expected, strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def direct(images, protocol='tensorflow'):
  """Features of all images in one pass, by the module itself."""
  inputs = inception.PROTOCOLS[protocol](images, RESOLUTION)
  params = {'params': extractor().params}
  output = Small().apply(params, inputs, method='features')
  return output.pool, output.spatial, output.logits


@pytest.mark.parametrize('count', [1, 16, 35])
def test_padding_does_not_change_features(small, count):
  found = joined(small, pixels(count))
  assert found[0].shape == (count, 5)
  assert found[1].shape == (count, 2 * RESOLUTION**2)
  assert found[2].shape == (count, 4)
  assert {x.dtype for x in found} == {np.dtype('float32')}
  assert_same(found, direct(pixels(count)))


def test_batches_of_any_size_are_one_set(small):
  images = pixels(41)
  cuts = iter(np.split(images, [1, 1, 30, 33]))  # the second one is empty
  assert_same(joined(small, cuts), joined(small, images))


def test_every_batch_but_the_last_is_full(small):
  counts = [len(batch.logits) for batch in small.batches(pixels(41))]
  assert counts == [16, 16, 9]


def test_floats_are_rounded_as_in_files(small):
  images = pixels(3)
  near = to_float(images) + np.float32(0.4 / 255)
  assert_same(joined(small, near), joined(small, images))
  assert_same(joined(small, to_float(images) * 2 - 5), direct(0 * images))


@pytest.mark.parametrize('protocol', inception.PROTOCOLS)
def test_protocols_differ_in_resize_and_scale(protocol):
  found = joined(extractor(protocol=protocol), pixels(2))
  assert_same(found, direct(pixels(2), protocol))
  if protocol != 'tensorflow':
    assert np.abs(found[0] - direct(pixels(2))[0]).max() > 1e-3


def test_protocols_scale_as_stated():
  images = np.full((1, 3, 3, 3), 255, np.uint8)
  for protocol, white in (
    ('tensorflow', 127 / 128),
    ('clean', 127 / 128),
    ('pytorch', 1),
  ):
    inputs = inception.PROTOCOLS[protocol](images, 5)
    np.testing.assert_allclose(inputs, np.full((1, 5, 5, 3), white), rtol=1e-6)


def test_statistics_are_numpys(small, monkeypatch):
  monkeypatch.setattr(inception, '_ROWS', 20)  # several updates
  images = pixels(70)
  found = small.summarize(images)
  vectors, spatial, logits = joined(small, images)
  np.testing.assert_array_equal(found.vectors, vectors)
  np.testing.assert_array_equal(found.logits, logits)
  for moments, rows in ((found.pool, vectors), (found.spatial, spatial)):
    rows = rows.astype(np.float64)
    assert moments.count == 70
    assert moments.mean.dtype == moments.covariance.dtype == np.float64
    np.testing.assert_allclose(moments.mean, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance, np.cov(rows.T), atol=1e-13)


def test_moments_need_no_features(small):
  whole = small.summarize(pixels(20))
  found = small.summarize(pixels(20), moments_only=True)
  assert found.vectors is found.logits is None
  np.testing.assert_array_equal(found.pool.covariance, whole.pool.covariance)


def test_a_set_has_the_metrics_of_itself(small):
  found = small.summarize(pixels(30))
  for moments in (found.pool, found.spatial):
    assert metrics.frechet_distance(moments, moments) < 1e-6
  quality = metrics.precision_recall(found.vectors, found.vectors)
  assert quality.precision == quality.recall == 1
  assert metrics.inception_score(found.logits).mean >= 1


@pytest.mark.parametrize(
  ('images', 'message'),
  [
    (pixels(0), 'there are no images'),
    ([], 'there are no images'),
    (pixels(2)[0], r'must be \[N, H, W, 3\]'),
    (pixels(2)[..., :1], r'must be \[N, H, W, 3\]'),
    (pixels(2).astype(np.int32), 'must be float'),
    (np.full((2, 8, 8, 3), np.nan, np.float32), 'NaN'),
    ([pixels(2), pixels(2, 9)], r'differ in size: \(8, 8\) and \(9, 9\)'),
  ],
)
def test_bad_images_are_refused(small, images, message):
  with pytest.raises(ValueError, match=message):
    small.summarize(images)


def test_features_that_are_not_finite_are_refused():
  params = jax.tree.map(lambda x: x * np.nan, extractor().params)
  broken = FeatureExtractor(module=Small(), params=params)
  with pytest.raises(ValueError, match='NaN'):
    broken.summarize(pixels(2))


def test_bad_options_are_refused():
  with pytest.raises(ValueError, match="'tf' is unknown; choose one of"):
    extractor(protocol='tf')
  with pytest.raises(ValueError, match='batch_size must be at least 1'):
    extractor(batch_size=0)


def test_batches_are_split_over_all_devices(small, tmp_path):
  file = tmp_path / 'features.npz'
  script = (
    'import numpy as np\n'
    'from tests.evaluation.features import test_inception as t\n'
    'extract = t.extractor(batch_size=15)\n'
    'assert extract.batch_size == 16\n'
    'outputs = extract._start(t.pixels(10))\n'
    'assert len(outputs[0].sharding.device_set) == 2, outputs[0].sharding\n'
    f'np.savez({str(file)!r}, *t.joined(extract, t.pixels(21)))\n'
  )
  devices = '--xla_force_host_platform_device_count=2'
  result = subprocess.run(
    [sys.executable, '-c', script],
    env=os.environ | {'XLA_FLAGS': f'{os.environ["XLA_FLAGS"]} {devices}'},
    capture_output=True,
    text=True,
  )
  assert result.returncode == 0, result.stderr[-2000:]
  assert_same(np.load(file).values(), joined(small, pixels(21)))


def test_inception_fits():
  module = Inception(width=2, num_classes=11, resolution=75)
  images = pixels(5, 16)
  shapes = jax.eval_shape(module.init, jax.random.key(0), images)
  params = rule_params(shapes['params'])
  extract = FeatureExtractor(module=module, params=params, batch_size=3)
  found = extract.summarize(images)
  assert found.vectors.shape == (5, 128)
  assert found.spatial.mean.shape == (3 * 3 * 7,)
  assert found.logits.shape == (5, 11)
  assert np.isfinite(found.logits).all()
