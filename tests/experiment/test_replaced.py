"""Another network in the place of a pretrained one is noticed."""

import json

import pytest

from configs import digits
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import records, replaced
from softdimo_jax.experiment.run import Run


def convert(folder, sha256):
  folder.mkdir(exist_ok=True)
  model = {
    'family': 'maskbit',
    'options': {},
    'source': {'weights': 'any', 'sha256': sha256},
  }
  (folder / 'model.json').write_text(json.dumps(model))


@pytest.fixture
def run(tmp_path):
  """A stage that begins from a pretrained teacher."""
  config = digits.get_config()
  config.stages = ('dimo',)
  config.weights = 'converted'
  config.pretrained = {'teacher': str(tmp_path / 'weights')}
  convert(tmp_path / 'weights', 'a')
  run = Run(tmp_path / 'run', config)
  run.folder('dimo').mkdir(parents=True)
  records.write(run.folder('dimo'), records.records(config)['dimo'])
  replaced.note(run.folder('dimo'), config, 'dimo')
  return run


def test_the_same_network_may_be_converted_again(run, tmp_path):
  convert(tmp_path / 'weights', 'a')
  run.check_pretrained()


def test_another_network_is_named(run, tmp_path):
  convert(tmp_path / 'weights', 'b')
  replaced.note(run.folder('dimo'), run.config, 'dimo')  # as a resumed run does
  with pytest.raises(UserError, match=r'pretrained.teacher=.* stage dimo was'):
    run.check_pretrained()


def test_a_stage_that_is_trained_anew_may_read_it(run, tmp_path):
  convert(tmp_path / 'weights', 'b')
  run.config.dimo.steps += 1
  run.check_pretrained()
