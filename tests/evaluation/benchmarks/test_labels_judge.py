"""The judge: exact copies score best, noise worst, padding changes nothing."""

import dataclasses

import jax
import numpy as np
import pytest

from softdimo_jax.data import digits
from softdimo_jax.evaluation.benchmarks.labels_judge import Judge
from softdimo_jax.networks.classifier import SmallClassifier


@pytest.fixture(scope='module')
def judge() -> Judge:
  train, _ = digits.load()
  images = train.images[:300]
  classifier = SmallClassifier(widths=(8, 8), feature_width=8)
  params = [
    classifier.init(jax.random.key(seed), images[:1])['params']
    for seed in (0, 1)
  ]
  return Judge(
    classifier=classifier,
    feature_params=params[0],
    label_params=params[1],
    images=images,
    tokens=np.arange(300).reshape(300, 1, 1),
    batch_size=128,
  )


def test_the_reference_itself_is_perfect(judge):
  labels = np.zeros(300, np.int32)
  score = judge.score(judge.images, labels, judge.tokens)
  assert score['fid'] == pytest.approx(0, abs=1e-6)
  assert score['precision'] == score['recall'] == score['coverage'] == 1
  assert score['copy_rate'] == score['unique_rate'] == 1
  assert score['num_images'] == 300


def test_noise_is_far_away_and_no_copy(judge):
  images = np.random.default_rng(0).random((300, 8, 8, 1), np.float32)
  tokens = np.full((300, 1, 1), -1)
  score = judge.score(images, np.zeros(300, np.int32), tokens)
  assert score['fid'] > 10 * judge.floor(seed=0, count=300)
  assert score['copy_rate'] == 0
  assert score['unique_rate'] == pytest.approx(1 / 300)


def test_batch_size_does_not_matter(judge):
  other = dataclasses.replace(judge, batch_size=300)
  assert judge.real_distance(judge.images[:77]) == pytest.approx(
    other.real_distance(judge.images[:77]), rel=1e-4
  )


def test_images_that_are_not_finite_are_refused(judge):
  images = np.full((300, 8, 8, 1), np.nan, np.float32)
  with pytest.raises(ValueError, match='NaN'):
    judge.score(images, np.zeros(300, np.int32), judge.tokens)
