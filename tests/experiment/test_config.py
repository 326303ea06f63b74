"""Configurations: every mistake is named before anything is compiled."""

import pytest

from configs import digits
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import config as config_lib
from softdimo_jax.experiment import validation


@pytest.mark.parametrize(
  'variants', ['maskgit', 'maskbit', 'ablations', 'maskbit,ablations,tiny']
)
def test_shipped_variants_are_valid(variants):
  validation.validate(digits.get_config(variants))


@pytest.mark.parametrize(
  ('key', 'value', 'words'),
  [
    ('stages', ('teacher', 'nothing'), "'nothing'"),
    ('model.generator.name', 'resnet', 'resnet'),
    ('model.generator.vocab_size', 33, '33'),
    ('dimo.kind', 'magic', "kind='magic'"),
    ('dimo.start', 'softdimo', "start='softdimo'"),
    ('dimo.batch_size', 0, 'batch_size=0'),
    ('dimo.ema_decay', 1.5, 'ema_decay=1.5'),
    ('dimo.init.mask_ratio', -0.1, 'init.mask_ratio=-0.1'),
    ('dimo.optimizer.learning_rate', 0.0, 'learning_rate=0.0'),
    ('dimo.optimizer.decay', 'step', "decay='step'"),
    ('dimo.divergence.reduction', 'mean', "reduction='mean'"),
    ('dimo.divergence.weight', 0.0, 'nothing to train'),
    ('softdimo.gan.taps', (0, 3), 'gan.taps=(0, 3)'),
    ('softdimo.gan.loss', 'wasserstein', 'wasserstein'),
    ('softdimo.gan.relaxation', 'sparse', 'sparse'),
    ('teacher.mask_schedule', 'sine', 'sine'),
    ('sampling.plan.order', 'sorted', 'sorted'),
    ('sampling.plan.name', 'magic', 'magic'),
    ('sampling.steps', 17, '17 sampling steps'),
    ('evaluation.teacher_steps', (1, 17), '17 sampling steps'),
  ],
)
def test_mistakes_are_named(key, value, words):
  config = digits.get_config()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(UserError) as error:
    validation.validate(config)
  assert words in str(error.value)
  assert '\n' not in str(error.value)


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
