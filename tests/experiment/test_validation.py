"""Configurations: every mistake is named before anything is compiled."""

import jax
import pytest
from ml_collections import ConfigDict

from configs import digits, maskbit, maskgen, maskgit, meissonic, shapes
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import validation


@pytest.mark.parametrize(
  'variants', ['maskgit', 'maskbit', 'ablations', 'maskbit,ablations,tiny']
)
def test_variants_of_digits_are_valid(variants):
  validation.validate(digits.get_config(variants))


@pytest.mark.parametrize(
  ('key', 'value', 'words'),
  [
    ('stages', ('teacher', 'nothing'), "'nothing'"),
    ('model.generator.name', 'resnet', 'resnet'),
    ('model.generator.vocab_size', 33, '33'),
    ('dimo.kind', 'magic', "kind='magic'"),
    ('dimo.start', 'softdimo', "start='softdimo' is unknown"),
    ('dimo.start', 'dimo', "start='dimo' is unknown"),
    ('dimo.start', 'tokenizer', "choose one of ('teacher',)"),
    ('stages', ('teacher', 'dimo', 'teacher'), "names 'teacher' more than"),
    ('softdimo.gan.weight', -1.0, 'gan.weight=-1.0 must be at least 0'),
    ('dimo.divergence.weight', -1.0, 'divergence.weight=-1.0'),
    ('dimo.reward.weight', -1.0, 'reward.weight=-1.0'),
    ('dimo.temperature', -1.0, 'config.dimo.temperature=-1.0'),
    ('dimo.gan.temperature', -1.0, 'gan.temperature=-1.0 must be in [0, 1000]'),
    ('softdimo.gan.temperature', -1.0, 'gan.temperature=-1.0'),
    ('sampling.temperature', -1.0, 'sampling.temperature=-1.0'),
    ('dimo.mask.low', 1.2, 'mask.low=1.2 must be in [0, 1]'),
    ('dimo.gan.fakes', 'none', "gan.fakes='none' is unknown"),
    ('stages', ('loop',), 'config.loop is not a stage'),
    ('dimo.mask.high', -0.1, 'mask.high=-0.1 must be in [0, 1]'),
    ('dimo.init.noise_scale', 1.1, 'init.noise_scale=1.1 must be in [0, 1]'),
    ('dimo.init.max_mask_ratio', 0.5, 'init.max_mask_ratio=0.5'),
    ('dimo.init.noise_ramp', 'sine', "noise_ramp='sine'"),
    ('dimo.init.noise_ramp_steps', 0, 'noise_ramp_steps=0'),
    ('dimo.auxiliary.burn_in', -1, 'auxiliary.burn_in=-1'),
    (
      'softdimo.gan.max_mask_ratio',
      1.0,
      'max_mask_ratio=1.0 must be in [0, 1)',
    ),
    ('softdimo.gan.ramp_steps', -1, 'gan.ramp_steps=-1'),
    ('dimo.batch_size', 0, 'batch_size=0'),
    ('dimo.ema_decay', 1.5, 'ema_decay=1.5'),
    ('dimo.init.mask_ratio', -0.1, 'init.mask_ratio=-0.1'),
    ('dimo.optimizer.learning_rate', 0.0, 'learning_rate=0.0'),
    ('dimo.optimizer.decay', 'step', "decay='step'"),
    ('dimo.divergence.reduction', 'mean', "reduction='mean'"),
    ('dimo.divergence.weight', 0.0, 'the generator needs a loss'),
    ('softdimo.gan.taps', (0, 3), 'gan.taps=(0, 3)'),
    ('softdimo.gan.loss', 'wasserstein', 'wasserstein'),
    ('softdimo.gan.relaxation', 'sparse', 'sparse'),
    ('softdimo.gan.relaxation', 'straight', "'sampled', 'reinforce')"),
    ('teacher.mask_schedule', 'sine', 'sine'),
    ('teacher.unmasked_weight', -1.0, 'unmasked_weight=-1.0 must be in [0, 1]'),
    ('sampling.plan.order', 'sorted', 'sorted'),
    ('sampling.plan.name', 'magic', 'magic'),
    ('sampling.steps', 17, '17 sampling steps'),
    ('evaluation.teacher_steps', (1, 17), '17 sampling steps'),
    ('evaluation.teacher_steps', (1, 4, 1), '(1, 4, 1) has a value twice'),
    ('evaluation.guidance_scales', (2, 2.0), '(2, 2.0) has a value twice'),
    ('softdimo.temperature', 0.0, 'gan.temperature=0.0 must be positive'),
    ('dimo.init.noise_unit', 'rms', "('absolute', 'table')"),
    ('dimo.auxiliary.updates', 0, 'auxiliary.updates=0 must be at least 1'),
    ('softdimo.gan.updates', 0, 'gan.updates=0 must be at least 1'),
    ('dimo.auxiliary.burn_in', 9999, 'auxiliary.burn_in=9999'),
    ('evaluation.every', -1, 'evaluation.every=-1'),
    ('loop.keep_best', 'exact', "keep_best='exact' is unknown"),
  ],
)
def test_mistakes_in_digits_are_named(key, value, words):
  config = digits.get_config()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(UserError) as error:
    validation.validate(config)
  assert words in str(error.value)
  assert '\n' not in str(error.value)


def test_a_missing_field_is_named():
  config = digits.get_config()
  del config.teacher.optimizer
  with pytest.raises(UserError, match=r'config.teacher has no field .*optimi'):
    validation.validate(config)


@pytest.mark.parametrize(
  ('module', 'changes', 'message'),
  [
    (digits, {'loop.keep_best': 'exact'}, "keep_best='exact'.*'recall'"),
    (shapes, {'loop.keep_best': 'fid'}, "keep_best='fid'.*'reward'"),
    (
      shapes,  # `dimo` has no reward of its own
      {'loop.keep_best': 'reward', 'tteo.terms': {}},
      r"'reward' is unknown; choose one of \('exact', 'overall'\)",
    ),
    (digits, {'evaluation.curve_images': 5}, 'curve_images=5'),
    (
      maskgit,
      {'evaluation': {'every': 5, 'teacher_steps': (1,)}},
      'evaluation.every needs scenes or data in memory',
    ),
  ],
)
def test_mistakes_in_curves_are_named(module, changes, message):
  config = module.get_config()
  if 'evaluation' in config:
    config.evaluation.every = 100
  for key, value in changes.items():
    *sections, name = key.split('.')
    section = config
    for part in sections:
      section = section[part]
    section[name] = ConfigDict(value) if isinstance(value, dict) else value
  with pytest.raises(UserError, match=message):
    validation.validate(config)


def test_curves_need_one_process(monkeypatch):
  config = digits.get_config()
  config.evaluation.every = 100
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  with pytest.raises(UserError, match='every needs a run of one process'):
    validation.validate(config)


@pytest.mark.parametrize('module', [maskgit, maskbit])
@pytest.mark.parametrize(
  'variant', ['all', 'dimo', 'gan', 'gan_long', 'tokenizer', 'teacher']
)
def test_class_configurations_are_valid(module, variant):
  validation.validate(module.get_config(variant))


@pytest.mark.parametrize(
  ('module', 'other_size'),
  [(maskgen, ''), (maskgen, ',xl'), (meissonic, ''), (meissonic, ',monetico')],
)
@pytest.mark.parametrize('stages', ['all', 'dimo', 'reward', 'tteo'])
def test_prompt_configurations_are_valid(module, other_size, stages):
  validation.validate(module.get_config(stages + other_size))


@pytest.mark.parametrize(
  ('variants', 'message'),
  [
    ('xxl', "variant 'xxl' of configs/maskgen.py is unknown.*reward"),
    ('dimo,reward', "'dimo' and 'reward' of .* exclude each other"),
  ],
)
def test_variants_that_make_no_sense(variants, message):
  with pytest.raises(ValueError, match=message):
    maskgen.get_config(variants)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'data.text_stage': 'teacher'}, r"text_stage='teacher'.*clip"),
    ({'data.world.grid': 1}, 'grid=1'),
    ({'loop.keep_best': 'exact'}, "keep_best='exact' needs points"),
    ({'data.world.grid': 5}, '60 pixels.*36'),
    ({'model.text.length': 8}, r'model\.text\.length=8.*10'),
    ({'model.text.width': 32}, 'width 64.*32'),
    ({'softdimo.start': 'nothing'}, "'nothing'.*dimo"),
    ({'preference.teacher_steps': (1, 99)}, r'preference.teacher_steps.*99'),
    ({'evaluation.tteo.stages': ('teacher',)}, "'teacher'.*softdimo"),
    ({'image_tower.projection_width': 32}, 'image_tower.*32.*64'),
    ({'image_tower.patch': 5}, 'image_tower.*patches of 5'),
    ({'tteo.terms': {'hps': 1.0}}, "tteo.terms='hps'"),
    ({'stages': ('clip', 'nothing')}, "'nothing'.* does not exist"),
    (
      {
        'softdimo.reward.relaxation': 'reinforce',
        'softdimo.reward.micro_batch': 1,
      },
      "reward.relaxation='reinforce' needs at least 2 samples",
    ),
    ({'softdimo.reward.terms': {'hps': 1.0}}, "reward.terms='hps'"),
  ],
)
def test_mistakes_in_shapes_are_named(changes, message):
  config = shapes.get_config('tiny')
  validation.validate(config)
  config.update_from_flattened_dict(changes)
  with pytest.raises(UserError, match=message):
    validation.validate(config)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'softdimo.gan.weight': 1.0}, 'softdimo.gan.weight=1.0: the GAN needs'),
    (
      {'softdimo.reward.terms': {'beauty': 1.0}},
      "reward.terms='beauty'.*hpsv2",
    ),
    ({'tteo.terms': {'dimo': 1.0}}, "tteo.terms='dimo' is unknown"),
    ({'tteo.batch_size': 0}, 'tteo.batch_size=0'),
    ({'model.prompt.clean': 'none'}, "model.prompt.clean='none'"),
    ({'model.prompt.pad_id': 49408}, 'model.prompt.pad_id=49408'),
    ({'dimo.kind': 'teacher'}, "dimo.kind='teacher' needs images"),
    ({'softdimo.start': 'text'}, "start='text'.*'teacher', 'dimo'"),
    (
      {'softdimo.divergence.weight': 0.0, 'softdimo.auxiliary.burn_in': 5},
      'auxiliary.burn_in=5 needs an auxiliary',
    ),
    ({'model.micro': ()}, 'reads 1 micro-conditions, config.micro has 0'),
  ],
)
def test_mistakes_in_maskgen_are_named(changes, message):
  config = maskgen.get_config()
  config.update_from_flattened_dict(changes)
  with pytest.raises(UserError, match=message):
    validation.validate(config)
