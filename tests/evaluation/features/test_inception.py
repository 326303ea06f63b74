"""Features of sets of images, mostly with a network of two layers."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from softdimo_jax.convert.rule_weights import rule_params
from softdimo_jax.data.images.pixels import to_float
from softdimo_jax.evaluation import metrics
from softdimo_jax.evaluation.features import inception
from softdimo_jax.evaluation.features.inception import feature_extractor
from softdimo_jax.networks.inception import Inception, InceptionOutput
from softdimo_jax.runtime.batched import joined

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
  options = {'batch_size': 16} | options
  return feature_extractor(Small(), variables['params'], **options)


@pytest.fixture(scope='module')
def small():
  return extractor()


def features(network, images):
  """All features of a set: (vectors, spatial, logits)."""
  return joined(network.outputs(images))


def moments(*parts):
  """Statistics of features that arrive in parts."""
  found = inception.Moments()
  for part in parts:
    found.add(part)
  return found.result()


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
  found = features(small, pixels(count))
  assert found[0].shape == (count, 5)
  assert found[1].shape == (count, 2 * RESOLUTION**2)
  assert found[2].shape == (count, 4)
  assert {x.dtype for x in found} == {np.dtype('float32')}
  assert_same(found, direct(pixels(count)))


def test_batches_of_any_size_are_one_set(small):
  images = pixels(41)
  cuts = iter(np.split(images, [1, 1, 30, 33]))  # the second one is empty
  assert_same(features(small, cuts), features(small, images))


def test_every_batch_but_the_last_is_full(small):
  counts = [len(batch[0]) for batch in small.outputs(pixels(41))]
  assert counts == [16, 16, 9]


def test_floats_are_rounded_as_in_files(small):
  images = pixels(3)
  near = to_float(images) + np.float32(0.4 / 255)
  assert_same(features(small, near), features(small, images))
  assert_same(features(small, to_float(images) * 2 - 5), direct(0 * images))


@pytest.mark.parametrize('protocol', inception.PROTOCOLS)
def test_protocols_differ_in_resize_and_scale(protocol):
  found = features(extractor(protocol=protocol), pixels(2))
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


def test_statistics_are_numpys(monkeypatch):
  monkeypatch.setattr(inception, '_ROWS', 20)  # several updates
  rows = np.random.default_rng(0).normal(size=(70, 5)).astype(np.float32)
  found = moments(*np.split(rows, [16, 32, 48, 64]))
  rows = rows.astype(np.float64)
  assert found.count == 70
  assert found.mean.dtype == found.covariance.dtype == np.float64
  np.testing.assert_allclose(found.mean, rows.mean(0), rtol=1e-12)
  np.testing.assert_allclose(found.covariance, np.cov(rows.T), atol=1e-13)


def test_a_set_has_the_metrics_of_itself(small):
  vectors, spatial, logits = features(small, pixels(30))
  for rows in (vectors, spatial):
    assert metrics.frechet_distance(moments(rows), moments(rows)) < 1e-6
  quality = metrics.precision_recall(vectors, vectors)
  assert quality.precision == quality.recall == 1
  assert metrics.inception_score(logits).mean >= 1


def test_no_images_have_no_features(small):
  for images in (pixels(0), []):
    assert not list(small.outputs(images))
  with pytest.raises(ValueError, match='there are no images'):
    moments()


@pytest.mark.parametrize(
  ('images', 'message'),
  [
    (pixels(2)[0], r'must be \[N, H, W, 3\]'),
    (pixels(2)[..., :1], r'must be \[N, H, W, 3\]'),
    (pixels(2).astype(np.int32), 'must be float'),
    (np.full((2, 8, 8, 3), np.nan, np.float32), 'NaN'),
    ([pixels(2), pixels(2, 9)], r'differ in size: \(8, 8\) and \(9, 9\)'),
  ],
)
def test_bad_images_are_refused(small, images, message):
  with pytest.raises(ValueError, match=message):
    list(small.outputs(images))


def test_features_that_are_not_finite_are_refused():
  with pytest.raises(ValueError, match='NaN'):
    moments(np.full((2, 5), np.nan))


def test_bad_options_are_refused():
  with pytest.raises(ValueError, match="'tf' is unknown; choose one of"):
    extractor(protocol='tf')
  with pytest.raises(ValueError, match='batch_size must be at least 1'):
    extractor(batch_size=0)


def test_inception_fits():
  module = Inception(width=2, num_classes=11, resolution=75)
  images = pixels(5, 16)
  shapes = jax.eval_shape(module.init, jax.random.key(0), images)
  params = rule_params(shapes['params'])
  network = feature_extractor(module, params, batch_size=3)
  vectors, spatial, logits = features(network, images)
  assert vectors.shape == (5, 128)
  assert spatial.shape == (5, 3 * 3 * 7)
  assert logits.shape == (5, 11)
  assert np.isfinite(logits).all()
