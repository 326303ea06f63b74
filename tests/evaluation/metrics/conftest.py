"""Fixtures and strategies of the metric tests."""

import pathlib

import numpy as np
import pytest

GOLDEN = pathlib.Path(__file__).parents[2] / 'golden' / 'metrics.npz'


@pytest.fixture(scope='session')
def golden():
  with np.load(GOLDEN) as arrays:
    return dict(arrays)
