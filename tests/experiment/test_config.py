"""A workdir remembers the configuration of its run."""

import functools
import json

import ml_collections
import pytest

from configs import digits, meissonic
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import config as config_lib
from softdimo_jax.experiment import records, validation


def test_workdir_remembers_its_configuration(tmp_path):
  config = digits.get_config()
  config_lib.claim_workdir(tmp_path / 'run', config)
  config_lib.claim_workdir(tmp_path / 'run', config)
  loaded = config_lib.load(tmp_path / 'run')
  assert loaded.to_dict() == config.to_dict()
  validation.validate(loaded)
  before = loaded.dimo.steps
  config.dimo.steps = 1
  changes = config_lib.changes(tmp_path / 'run', config)
  assert changes == f'dimo.steps was {before} and is 1'
  config_lib.claim_workdir(tmp_path / 'run', config)
  assert config_lib.load(tmp_path / 'run').dimo.steps == 1
  kept = tmp_path / 'run' / 'earlier' / 'config-1.json'
  assert json.loads(kept.read_text())['dimo']['steps'] == before


def test_a_workdir_of_version_0_1_is_the_same_run(tmp_path):
  """Without the fields added since, and with temperatures spelt out."""
  config = digits.get_config()
  config.evaluation.every = 0
  old = config.to_dict()
  for stage in (old['dimo'], old['softdimo']):
    for field in (
      *('noise_unit', 'max_mask_ratio', 'noise_ramp', 'noise_ramp_steps'),
    ):
      del stage['init'][field]
    del stage['auxiliary']['updates'], stage['auxiliary']['burn_in']
    del stage['gan']['updates']
    stage['gan']['temperature'] = stage['reward']['temperature'] = 1.0
  del old['teacher']['exact_count'], old['teacher']['unmasked_weight']
  old['teacher']['masked_only'] = True
  old['sampling']['temperature'] = 1.0
  del old['evaluation']['every'], old['evaluation']['curve_images']
  del old['loop']['keep_best']
  path = tmp_path / config_lib.CONFIG_FILE
  path.write_text(json.dumps(old))
  assert not config_lib.changes(tmp_path, config)
  stored = config_lib.load(tmp_path)
  validation.validate(stored)
  assert records.records(stored) == records.records(config)
  config.softdimo.temperature = 0.5
  changes = config_lib.changes(tmp_path, config)
  assert 'softdimo.gan.temperature was 1.0' in changes


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


@pytest.mark.parametrize(
  'text',
  [
    *('', '[]', '3', '{}', '{"data": 1}', '{"model": {'),
    *('{"dimo": {"kind": "distill"}}', '{"a": 1, "a": 2}'),
  ],
)
def test_a_damaged_configuration_is_named(text, tmp_path):
  (tmp_path / 'config.json').write_text(text)
  with pytest.raises(UserError, match='is not the configuration of a run'):
    config_lib.load(tmp_path)


@pytest.mark.parametrize('text', ['', '[]', 'null', '{"name": "a"}'])
def test_a_damaged_record_is_named(text, tmp_path):
  (tmp_path / 'stage.json').write_text(text)
  with pytest.raises(UserError, match='is damaged'):
    records.load(tmp_path)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'model.num_heads': 4}, 'model.num_heads was None and is 4'),
    ({'dimo.temperature': 2.0}, 'stage dimo was trained with'),
    ({'sampling.temperature': 'hot'}, "sampling.temperature='hot' must be"),
    ({'stages': None}, 'is not the configuration of a run'),
  ],
)
def test_stages_are_those_of_the_stored_configuration(
  change, message, tmp_path
):
  config = digits.get_config()
  for name, record in records.records(config).items():
    records.write(tmp_path / name, record)
  records.check(tmp_path, config)
  config.data.held_out = 1  # the data may be elsewhere
  records.check(tmp_path, config)
  stored = config.to_dict()
  for path, value in change.items():
    *above, name = path.split('.')
    functools.reduce(dict.__getitem__, above, stored)[name] = value
  with pytest.raises(UserError, match=message):
    records.check(tmp_path, ml_collections.ConfigDict(stored))


def test_stages_of_another_version_are_not_compared(tmp_path):
  config = digits.get_config()
  record = records.records(config, version=99)['dimo']
  records.write(tmp_path / 'dimo', record)
  config.dimo.temperature = 2.0
  records.check(tmp_path, config)


@pytest.mark.parametrize(
  'damage',
  [
    lambda text: '[]',
    lambda text: '3',
    lambda text: text[: len(text) // 2],
    lambda text: text.replace('"dimo.steps": ', '"dimo.steps": 1'),
    lambda text: '{"name": "dimo", "settings": [1], "reads": {}}',
  ],
)
def test_damaged_records_are_said(tmp_path, damage):
  record = records.records(digits.get_config())['dimo']
  records.write(tmp_path, record)
  assert records.load(tmp_path) == record
  path = tmp_path / 'stage.json'
  path.write_text(damage(path.read_text()))
  with pytest.raises(UserError, match=r'stage\.json is damaged'):
    records.load(tmp_path)
