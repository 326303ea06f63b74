"""A workdir remembers the configuration of its run."""

import json

import pytest

from configs import digits, meissonic
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import config as config_lib
from softdimo_jax.experiment import validation


def test_workdir_remembers_its_configuration(tmp_path):
  config = digits.get_config()
  config_lib.claim_workdir(tmp_path / 'run', config)
  config_lib.claim_workdir(tmp_path / 'run', config)
  loaded = config_lib.load(tmp_path / 'run')
  assert loaded.to_dict() == config.to_dict()
  validation.validate(loaded)
  steps, config.dimo.steps = config.dimo.steps, 1
  with pytest.raises(UserError, match=rf'dimo\.steps was {steps} and is 1'):
    config_lib.claim_workdir(tmp_path / 'run', config)


def test_a_workdir_of_version_0_1_is_the_same_run(tmp_path):
  """Without the fields added since, and with temperatures spelt out."""
  config = digits.get_config()
  old = config.to_dict()
  for stage in (old['dimo'], old['softdimo']):
    del stage['init']['noise_unit']
    del stage['auxiliary']['updates'], stage['auxiliary']['burn_in']
    stage['gan']['temperature'] = stage['reward']['temperature'] = 1.0
  del old['teacher']['exact_count'], old['teacher']['unmasked_weight']
  old['teacher']['masked_only'] = True
  old['sampling']['temperature'] = 1.0
  path = tmp_path / config_lib.CONFIG_FILE
  path.write_text(json.dumps(old))
  config_lib.claim_workdir(tmp_path, config)
  validation.validate(config_lib.load(tmp_path))
  config.softdimo.temperature = 0.5
  with pytest.raises(UserError, match=r'softdimo\.gan\.temperature was 1\.0'):
    config_lib.claim_workdir(tmp_path, config)


@pytest.mark.parametrize('masked_only', [True, False])
def test_the_loss_of_an_older_teacher_stays(tmp_path, masked_only):
  old = digits.get_config().to_dict()
  del old['teacher']['exact_count'], old['teacher']['unmasked_weight']
  old['teacher']['masked_only'] = masked_only
  (tmp_path / config_lib.CONFIG_FILE).write_text(json.dumps(old))
  teacher = config_lib.load(tmp_path).teacher
  assert 'masked_only' not in teacher
  assert teacher.unmasked_weight == (0.0 if masked_only else 1.0)
  assert not teacher.exact_count


def test_the_sampler_of_an_older_meissonic_stays_at_its_times(tmp_path):
  config = meissonic.get_config()
  assert config.sampling.plan.official_times
  old = config.to_dict()
  del old['sampling']['plan']['official_times']
  (tmp_path / config_lib.CONFIG_FILE).write_text(json.dumps(old))
  assert not config_lib.load(tmp_path).sampling.plan.official_times


def test_workdir_must_be_a_folder(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='file'):
    config_lib.claim_workdir(tmp_path / 'file', digits.get_config())
  with pytest.raises(UserError, match='not the workdir of a run'):
    config_lib.load(tmp_path)
