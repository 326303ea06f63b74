import numpy as np
import pytest

from softdimo_jax.evaluation.report.table import (
  default_columns,
  format_markdown_table,
  format_table,
  make_table,
)

ROWS = [
  {
    'model': 'teacher',
    'steps': 16,
    'guidance_scale': 2.0,
    'fid': 5.71234,
    'fid_std': 0.2,
    'images_per_second': 12345.6,
  },
  {'steps': 1, 'model': 'dimo', 'guidance_scale': None, 'fid': 17.6},
]


def test_plain_text_is_aligned():
  assert format_table(ROWS).splitlines() == [
    'model    steps  guidance            FID  images/s',
    '-------  -----  --------  -------------  --------',
    'teacher     16         2  5.712 ± 0.200    12,346',
    'dimo         1         -         17.600         -',
  ]


def test_markdown():
  assert format_markdown_table(ROWS, ['model', 'fid']).splitlines() == [
    '| model   |           FID |',
    '| ------- | ------------: |',
    '| teacher | 5.712 ± 0.200 |',
    '| dimo    |        17.600 |',
  ]


def test_markdown_escapes_cell_separators():
  line = format_markdown_table([{'model': 'a|b\nc'}]).splitlines()[-1]
  assert line == r'| a\|b c |'


def test_unknown_keys_come_last_and_missing_columns_are_left_out():
  rows = [{'entropy': 0.25, 'fid': 1.0, 'model': 'x', 'recall': None}]
  assert default_columns(rows) == ('model', 'fid', 'entropy')


def test_lone_spread_stays_a_column():
  assert default_columns([{'fid_std': 0.5}]) == ('fid_std',)


@pytest.mark.parametrize(
  ('key', 'value', 'cell'),
  [
    ('steps', np.int64(4), '4'),
    ('accuracy', np.float32(0.98765), '0.988'),
    ('fid', float('nan'), 'nan'),
    ('images_per_second', 3.14159, '3.14'),
    ('entropy', 0.123456, '0.1235'),
    ('finished', True, 'yes'),
    ('layers', [1, 2], '[1, 2]'),
    ('fid', None, '-'),
  ],
)
def test_formats(key, value, cell):
  assert make_table([{key: value}], [key]).rows == ((cell,),)


def test_only_numbers_align_right():
  table = make_table([{'model': 'x', 'fid': 1.0, 'ok': True}, {'fid': None}])
  assert table.titles == ('model', 'FID', 'ok')
  assert table.numeric == (False, True, False)


def test_no_rows():
  assert format_table([], ['model', 'fid']).splitlines() == [
    'model  FID',
    '-----  ---',
  ]
