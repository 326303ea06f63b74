"""Fixtures and strategies of the metric tests."""

import pathlib
import tracemalloc

import numpy as np
import pytest

from softdimo_jax.evaluation.metrics import features

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden' / 'metrics.npz'


@pytest.fixture(scope='session')
def golden():
  with np.load(GOLDEN) as arrays:
    return dict(arrays)


@pytest.fixture
def peak_in_blocks(monkeypatch):
  """Memory of a metric of two sets of 2,000 in small blocks.

  As a share of one full matrix of their distances.
  """
  monkeypatch.setattr(features, '_BLOCK_ENTRIES', 20 * 2000)

  def peak(metric):
    x, y = np.random.default_rng(0).normal(size=(2, 2000, 4))
    tracemalloc.start()
    metric(x, y)
    _, found = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return found / (8 * 2000 * 2000)

  return peak
