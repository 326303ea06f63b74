"""A configuration means the same, wherever a command is started."""

import json

import pytest

from configs import digits, maskgen, maskgit
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import config as config_lib
from softdimo_jax.experiment import config_paths


def test_paths_are_expanded_and_absolute(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', '/home/somebody')
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'images').mkdir()
  config = maskgit.get_config()
  config.pretrained.teacher = '~/teacher'
  config.pretrained.tokenizer = '../tokenizer'
  config.data.tokens = 'tokens'
  config.data.dir = 'gs://tfds-data'
  config.data.name = 'images'
  config_paths.make_absolute(config, names=True)
  assert config.pretrained.teacher == '/home/somebody/teacher'
  assert config.pretrained.tokenizer == str(tmp_path.parent / 'tokenizer')
  assert config.pretrained.dimo == ''
  assert config.data.tokens == str(tmp_path / 'tokens')
  assert config.data.dir == 'gs://tfds-data'
  assert config.data.name == str(tmp_path / 'images')


def test_names_stay_names(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  for folder in ('digits', 'openai'):
    (tmp_path / folder).mkdir()
  for module in (digits, maskgen, maskgit):
    config = module.get_config()
    before = json.dumps(config.to_dict())
    config_paths.make_absolute(config, names=True)
    assert json.dumps(config.to_dict()) == before


@pytest.mark.parametrize('field', ['tokens', 'name'])
def test_addresses_are_refused(field):
  config = maskgit.get_config()
  config.data[field] = 'gs://bucket/x'
  with pytest.raises(UserError, match=rf'config.data.{field}=gs://bucket/x is'):
    config_paths.make_absolute(config, names=True)


def test_a_run_is_read_from_another_folder(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  config = maskgit.get_config()
  config.pretrained.teacher = 'teacher'
  config_paths.make_absolute(config, names=True)
  config_lib.claim_workdir(tmp_path / 'run', config)
  (tmp_path / 'elsewhere').mkdir()
  monkeypatch.chdir(tmp_path / 'elsewhere')
  stored = config_lib.load(tmp_path / 'run')
  assert stored.pretrained.teacher == str(tmp_path / 'teacher')
  assert not config_lib.changes(tmp_path / 'run', config)
