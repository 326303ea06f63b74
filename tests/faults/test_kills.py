"""A few of the interruptions and damages of `kills`, in the slow tier."""

import pytest

from tests.faults import kills

pytestmark = [pytest.mark.slow, pytest.mark.command]


@pytest.mark.parametrize('name', ['digits', 'shapes'])
def test_interrupted_and_damaged_runs_equal_untouched_ones(name, tmp_path):
  options = ['--kills=2', '--terms=2', '--flips=2', f'--out={tmp_path}']
  assert kills.main([*options, '--configs', name]) == 0
