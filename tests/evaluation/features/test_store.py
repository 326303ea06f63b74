"""Features on disk: resumed, exact, and never of something else."""

import numpy as np
import pytest

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.features.store import FeatureStore
from softdimo_jax.evaluation.metrics import FeatureStatistics

FINGERPRINT = {'network': 'a', 'images': 'b'}
VECTORS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


def store(root, fingerprint=FINGERPRINT):
  return FeatureStore(root, fingerprint, num_images=7, images_per_range=3)


def fill(opened, ranges=None):
  for start, stop in opened.missing()[:ranges]:
    opened.write(start, {'vectors': VECTORS[start:stop]})


def test_it_goes_on_where_it_stopped(tmp_path):
  assert store(tmp_path).missing() == [(0, 3), (3, 6), (6, 7)]
  fill(store(tmp_path), ranges=1)
  assert store(tmp_path).missing() == [(3, 6), (6, 7)]
  fill(store(tmp_path))
  opened = store(tmp_path)
  assert opened.missing() == []
  np.testing.assert_array_equal(opened.stack('vectors'), VECTORS)
  expected = FeatureStatistics.from_features(VECTORS)
  found = opened.moments('vectors')
  assert found.count == 7
  np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
  np.testing.assert_allclose(found.covariance, expected.covariance, rtol=1e-9)


def test_other_facts_are_another_store(tmp_path):
  fill(store(tmp_path))
  assert len(store(tmp_path, FINGERPRINT | {'network': 'c'}).missing()) == 3


def test_broken_files_are_named(tmp_path):
  fill(store(tmp_path))
  file = next(tmp_path.rglob('000003.npz'))
  file.write_bytes(file.read_bytes()[:50])
  with pytest.raises(UserError, match=r'000003\.npz is missing or damaged'):
    store(tmp_path).stack('vectors')


def test_features_that_are_not_finite_are_refused(tmp_path):
  with pytest.raises(UserError, match=r'vectors .*from 3 on contain NaN'):
    store(tmp_path).write(3, {'vectors': VECTORS[:3] * np.nan})
  assert len(store(tmp_path).missing()) == 3


def test_a_place_that_cannot_be_written_is_named(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='choose another path'):
    store(tmp_path / 'file')
