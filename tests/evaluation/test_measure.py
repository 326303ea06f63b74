"""Which metrics of a set can be had."""

import logging

import pytest

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation import measure
from softdimo_jax.evaluation.measure import Options


@pytest.mark.parametrize(
  ('name', 'images', 'reference', 'message'),
  [
    ('kid', 999, 5000, 'needs at least 1000 .* has 999; lower --kid_subset'),
    ('kid', 5000, 999, 'has 999'),
    ('pr', 3, 50, 'at least 4 .* lower --neighbours'),
    ('prdc', 50, 3, 'at least 4'),
    ('is', 9, None, 'at least 10'),
    ('fid', 1, 50, 'at least 2'),
  ],
)
def test_a_set_that_is_too_small_is_named(name, images, reference, message):
  with pytest.raises(UserError, match=message):
    measure.check_counts(('is_adm', name), images, reference)


def test_sets_that_are_large_enough_pass_in_silence(caplog):
  names = tuple(measure.METRICS)
  options = Options(kid_subset_size=2048)
  measure.check_counts(names, 2048, 2048, options)
  measure.check_counts(names, 2048, None, options)
  measure.check_counts(('is', 'clip_score'), 10, 1)
  assert not caplog.records


def test_a_small_fid_is_said(caplog):
  with caplog.at_level(logging.WARNING):
    measure.check_counts(('fid',), 100, 5000)
  assert 'fid of 100 images is not comparable' in caplog.text


def test_a_metric_that_fails_leaves_the_others(monkeypatch):
  def fails(features, options):
    raise ValueError('widths differ')

  monkeypatch.setattr(
    measure, 'METRICS', {'fid': fails, 'is': lambda *_: {'is': 2.0}}
  )
  row, failures = measure.measure(('fid', 'is'), measure.Features())
  assert row == {'is': 2.0}
  assert failures == ['fid cannot be computed: widths differ']
