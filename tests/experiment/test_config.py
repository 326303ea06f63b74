"""A workdir remembers the configuration of its run."""

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


def test_workdir_must_be_a_folder(tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='file'):
    config_lib.claim_workdir(tmp_path / 'file', digits.get_config())
  with pytest.raises(UserError, match='not the workdir of a run'):
    config_lib.load(tmp_path)
