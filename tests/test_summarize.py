"""Means and spreads over runs."""

import json

import pytest

from softdimo_jax import summarize
from softdimo_jax.errors import UserError


def write(folder, **fids: float) -> str:
  folder.mkdir()
  rows = [
    {'model': name, 'steps': 1, 'guidance_scale': 1.0, 'fid': fid}
    for name, fid in fids.items()
  ]
  (folder / 'results.json').write_text(json.dumps({'rows': rows}))
  return str(folder)


def test_mean_and_spread(tmp_path):
  runs = [write(tmp_path / str(fid), dimo=fid) for fid in (1.0, 2.0, 6.0)]
  (row,) = summarize.summarize(runs)
  assert row['fid'] == 3.0
  assert row['fid_std'] == pytest.approx(7**0.5)
  assert 'recall' not in row


def test_begins_with_the_comparison_with_the_paper(tmp_path, capsys):
  runs = [
    write(tmp_path / str(fid), dimo=10.0, softdimo=fid)
    for fid in (5.0, 8.0, 11)
  ]
  summarize.main(['summarize', *runs])
  claims, rows = capsys.readouterr().out.split('\n\n')
  assert claims.splitlines()[2:] == [
    '| Soft-Di[M]O / Di[M]O | FID    | 0.54  | 0.8  | 2 of 3      |'
  ]
  assert len(rows.splitlines()) == 4


def test_missing_results_are_named(tmp_path):
  with pytest.raises(UserError, match='finish that run'):
    summarize.summarize([str(tmp_path)])
