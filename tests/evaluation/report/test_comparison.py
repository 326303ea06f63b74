"""Claims of the papers in rows of a run."""

import pytest

from softdimo_jax.evaluation.report import paper
from softdimo_jax.evaluation.report.comparison import (
  CLAIMS,
  compare,
  holds,
  pair,
)

GUIDED = {'steps': 1, 'guidance_scale': 2.0}
ROWS = [
  {'model': 'tokenizer', 'steps': 1, 'guidance_scale': None, 'fid': 1.0},
  {'model': 'teacher', 'steps': 1, 'guidance_scale': 1.0, 'fid': 30.0},
  {'model': 'teacher', 'steps': 1, 'guidance_scale': 2.0, 'fid': 40.0},
  {'model': 'teacher', 'steps': 8, 'guidance_scale': 2.0, 'fid': 18.0},
  {'model': 'teacher', 'steps': 16, 'guidance_scale': 2.0, 'fid': 16.0},
  {'model': 'teacher', 'steps': 16, 'guidance_scale': 1.5, 'fid': 10.0},
  {'model': 'dimo', **GUIDED, 'fid': 20.0, 'recall': 0.5, 'precision': 0.9},
  {'model': 'softdimo', **GUIDED, 'fid': 12, 'recall': 0.6, 'precision': 0.9},
  {'model': 'gan_only', **GUIDED, 'fid': 12.0, 'recall': None},
]


def cells(runs, metric):
  return {
    row['claim']: (row['paper'], row['here'], row['order_holds'])
    for row in compare(runs)
    if row['metric'] == metric
  }


def test_ratios_beside_the_papers():
  assert cells([ROWS], 'FID') == {
    'Di[M]O / teacher, 1 step': ('< 1', '0.5', 'yes'),
    'Di[M]O / teacher, same guidance': ('1.74', '1.25', 'yes'),
    'Di[M]O / best teacher': ('1.74', '2', 'yes'),
    'Soft-Di[M]O / teacher, same guidance': ('0.94', '0.75', 'yes'),
    'Soft-Di[M]O / best teacher': ('0.94', '1.2', 'no'),
    'Soft-Di[M]O / Di[M]O': ('0.54', '0.6', 'yes'),
    # A tie is not an order.
    'Soft-Di[M]O / GAN only': ('0.915', '1', 'no'),
  }


def test_shares_are_shown_with_both_values():
  change = 'Di[M]O -> Soft-Di[M]O'
  assert cells([ROWS], 'recall') == {
    change: ('0.49 -> 0.6', '0.5 -> 0.6', 'yes')
  }
  assert cells([ROWS], 'precision')[change][1:] == ('0.9 -> 0.9', 'no')


def test_scores_are_better_if_higher():
  rows = [
    {'model': 'teacher', 'steps': 16, 'overall': 0.5, 'exact': 0.0},
    {'model': 'teacher', 'steps': 4, 'overall': 0.4, 'exact': 0.0},
    {'model': 'softdimo', 'steps': 1, 'overall': 0.4, 'exact': 0.3},
    {'model': 'gumbel_reward', 'steps': 1, 'overall': 0.2, 'exact': 0.2},
    {'model': 'softdimo_tteo', 'steps': 1, 'overall': 0.6, 'exact': 0.4},
  ]
  overall = cells([rows], 'overall')
  assert overall['Soft-Di[M]O / best teacher'] == ('1.06', '0.8', 'no')
  assert overall['Soft-Di[M]O / Gumbel-ST'] == ('1.03', '2', 'yes')
  assert overall['test-time search / best teacher'] == ('1.31', '1.2', 'yes')
  # The paper has no such column, and a ratio to 0 is not a number.
  exact = cells([rows], 'exact')
  assert exact['Soft-Di[M]O / best teacher'] == ('> 1', '-', 'yes')


def test_claims_about_missing_models_are_left_out():
  assert compare([]) == compare([ROWS[:6]]) == []
  assert list(cells([[*ROWS[:3], ROWS[6]]], 'FID')) == [
    'Di[M]O / teacher, 1 step'
  ]


def test_several_runs_are_averaged_and_counted():
  worse = [row | {'fid': 30.0} for row in ROWS]
  soft = [row for row in ROWS if row['model'] != 'dimo']
  table = cells([ROWS, worse, soft], 'FID')
  assert table['Soft-Di[M]O / Di[M]O'][1:] == ('0.8', '1 of 2')
  assert table['Soft-Di[M]O / teacher, same guidance'][2] == '2 of 3'
  assert cells([ROWS, ROWS], 'recall')['Di[M]O -> Soft-Di[M]O'][2] == '2 of 2'
  # Only one of the runs has both models.
  alone = cells([ROWS, ROWS[:6]], 'recall')
  assert alone['Di[M]O -> Soft-Di[M]O'][2] == '1 of 1'


@pytest.mark.parametrize('table', paper.TABLES)
def test_the_papers_own_numbers_hold(table):
  found = [
    holds(claim, *values) for claim in CLAIMS if (values := pair(claim, table))
  ]
  assert found and all(found)
