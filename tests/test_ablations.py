"""Each comparison of the paper runs, at a size that learns nothing."""

import json

import numpy as np
import pytest

from configs import digits, shapes
from tests.commands import call, succeeds

pytestmark = [pytest.mark.slow, pytest.mark.command]


def rows_of(tmp_path, config: str, *options: str) -> dict[str, dict]:
  """Rows of the students, by their names."""
  succeeds(
    call('main', f'--config={config}', f'--workdir={tmp_path}', *options)
  )
  rows = json.loads((tmp_path / 'results.json').read_text())['rows']
  return {row['model']: row for row in rows if row['model'] != 'teacher'}


def students(config) -> set[str]:
  kinds = {name: config[name].kind for name in config.stages}
  return {x for x in kinds if kinds[x] in ('distill', 'rectify')}


@pytest.mark.parametrize('family', ['maskgit', 'maskbit'])
def test_digits(tmp_path, family):
  variants = f'{family},ablations,tiny'
  rows = rows_of(
    tmp_path,
    f'configs/digits.py:{variants}',
    '--config.evaluation.teacher_steps=(1,)',
    '--config.evaluation.every=10',
    '--config.loop.keep_best=fid',
  )
  named = students(digits.get_config(variants))
  assert {'gan_only', 'reinforce_gan', 'redi_softdimo'} < named < rows.keys()
  assert np.isfinite([rows[name]['fid'] for name in named]).all()


def test_shapes(tmp_path):
  rows = rows_of(tmp_path, 'configs/shapes.py:ablations,tiny')
  named = students(shapes.get_config('ablations,tiny'))
  assert {'reward_only', 'reinforce_reward', 'reward_and_gan'} < named
  assert named < rows.keys()
  for name in named:
    assert 0 <= rows[name]['exact'] <= rows[name]['overall'] <= 1
    assert np.isfinite(rows[name]['preference_held_out'])
