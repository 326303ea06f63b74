"""Means and spreads over runs."""

import json

import pytest

from softdimo_jax import summarize
from softdimo_jax.errors import UserError


def write(folder, fid: float) -> str:
  folder.mkdir()
  row = {'model': 'dimo', 'steps': 1, 'guidance_scale': 1.0, 'fid': fid}
  (folder / 'results.json').write_text(json.dumps({'rows': [row]}))
  return str(folder)


def test_mean_and_spread(tmp_path):
  runs = [write(tmp_path / str(fid), fid) for fid in (1.0, 2.0, 6.0)]
  (row,) = summarize.summarize(runs)
  assert row['fid'] == 3.0
  assert row['fid_std'] == pytest.approx(7**0.5)
  assert 'recall' not in row


def test_missing_results_are_named(tmp_path):
  with pytest.raises(UserError, match='finish that run'):
    summarize.summarize([str(tmp_path)])
