"""Every number of a configuration has a range, and nothing is NaN."""

import pytest

from configs import (
  cifar10,
  digits,
  maskbit,
  maskgen,
  maskgit,
  meissonic,
  shapes,
)
from softdimo_jax.experiment import ranges

NAN, INF = float('nan'), float('inf')
CONFIGS = [
  (cifar10, 'maskgit'),
  (cifar10, 'maskbit,cpu'),
  (digits, 'ablations,tiny'),
  (digits, 'maskbit'),
  (maskbit, 'gan_long'),
  (maskgen, 'tteo,xl'),
  (maskgit, 'all'),
  (meissonic, 'reward,monetico'),
  (shapes, 'ablations'),
  (shapes, 'meissonic,tiny'),
]


@pytest.mark.parametrize(('module', 'variant'), CONFIGS)
def test_shipped_numbers_are_in_the_table_and_in_their_ranges(module, variant):
  config = module.get_config(variant)
  found = list(ranges.numbers(config))
  assert not ['.'.join(x.path) for x in found if x.allowed is None]
  ranges.validate(config)


@pytest.mark.parametrize(('module', 'variant'), CONFIGS)
def test_no_number_may_be_nan_or_infinite(module, variant):
  """Each in turn, also those in tuples."""
  config = module.get_config(variant)
  for number in list(ranges.numbers(config)):
    for wrong in (NAN, INF, -INF, 'x', True):
      assert number.allowed is not None and number.allowed.problem(wrong)


@pytest.mark.parametrize(
  ('key', 'value'),
  [
    ('loop.checkpoint_every', 0),
    ('loop.log_every', 0),
    ('teacher.optimizer.learning_rate', NAN),
    ('teacher.optimizer.learning_rate', -1.0),
    ('teacher.optimizer.b1', 1.0),
    ('teacher.optimizer.eps', 0.0),
    ('teacher.optimizer.clip_norm', NAN),
    ('dimo.guidance_scale', -2.0),
    ('sampling.guidance_scale', INF),
    ('evaluation.guidance_scales', (1.0, NAN)),
    ('evaluation.batch_size', 0),
    ('evaluation.num_images', 0),
    ('evaluation.teacher_steps', (0,)),
    ('evaluation.teacher_steps', ('4',)),
    ('seed', -1),
    ('seed', 2**32),
    ('features.seed', 2**32),
    ('data.held_out', -1),
    ('model.generator.num_heads', 0),
    ('model.generator.width', -64),
    ('model.tokenizer.channel_multipliers', (1, 0)),
    ('softdimo.gan.width', 0),
    ('dimo.reward.terms.clip', NAN),
    ('dimo.divergence.beta', NAN),
    ('dimo.temperature', None),
    ('dimo.temperature', {}),
    ('sampling.steps', {'a': 3}),
    ('sampling.steps', (3,)),
    ('softdimo.gan.weight', [1.0]),
    ('evaluation.guidance_scales', 1.0),
    ('softdimo.gan.taps', None),
  ],
)
def test_wrong_numbers_are_named(key, value):
  config = digits.get_config()
  *sections, name = key.split('.')
  section = config
  for part in sections:
    section = section[part]
  with section.ignore_type():
    section[name] = value
  with pytest.raises(ValueError, match=rf'^{key}='):
    ranges.validate(config)


def test_empty_fields_stand_for_others():
  config = digits.get_config()
  assert config.dimo.gan.temperature is None
  ranges.validate(config)
