"""A workdir remembers the configuration of its run."""

import json

import pytest

from configs import digits
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
  old['sampling']['temperature'] = 1.0
  del old['evaluation']['every'], old['evaluation']['curve_images']
  del old['loop']['keep_best']
  path = tmp_path / config_lib.CONFIG_FILE
  path.write_text(json.dumps(old))
  config_lib.claim_workdir(tmp_path, config)
  validation.validate(config_lib.load(tmp_path))
  config.softdimo.temperature = 0.5
  with pytest.raises(UserError, match=r'softdimo\.gan\.temperature was 1\.0'):
    config_lib.claim_workdir(tmp_path, config)


def test_workdir_must_be_a_folder(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='file'):
    config_lib.claim_workdir(tmp_path / 'file', digits.get_config())
  with pytest.raises(UserError, match='not the workdir of a run'):
    config_lib.load(tmp_path)
