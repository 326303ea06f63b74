"""Text-to-image systems of official size, and weights by rule for them."""

import pathlib

import jax
import numpy as np
import pytest

from configs import maskgen, meissonic
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import stages, validation
from softdimo_jax.experiment.run import Run
from softdimo_jax.runtime import sharding
from softdimo_jax.runtime.preemption import PreemptionNotice

CONFIGS = {'maskgen': maskgen, 'meissonic': meissonic}


def test_sizes_are_the_official_ones():
  count = lambda shapes: sum(x.size for x in jax.tree.leaves(shapes))
  for name, variants, sizes, image in (
    ('maskgen', 'all', (604_311_552, 391_046_292), 256),
    ('maskgen', 'xl', (1_176_611_840, 391_046_292), 256),
    ('meissonic', 'all', (1_006_946_304, 146_244_675), 1024),
    ('meissonic', 'monetico', (998_555_648, 146_244_675), 512),
  ):
    run = Run(pathlib.Path('/nowhere'), CONFIGS[name].get_config(variants))
    key = jax.random.key(0)
    generator, tokenizer = sizes
    assert count(jax.eval_shape(run.family.init, key)) == generator
    assert count(jax.eval_shape(run.family.init_tokenizer, key)) == tokenizer
    assert run.family.image_shape == (image, image, 3)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['maskgen', 'meissonic'])
def test_made_up_weights_need_no_files(name, tmp_path):
  config = CONFIGS[name].get_config('dimo')
  shrink(config)
  config.weights = config.data.vocabulary = 'rule'
  validation.validate(config)
  run = Run(tmp_path, config)
  run.check_inputs()
  stages.train(run, sharding.make_mesh(), PreemptionNotice())
  conditions = run.inputs.conditions(['a cat'], ['clip'])
  text = conditions.take(np.arange(1))
  assert text.states.shape == (1, 12, 32)
  assert conditions.prompt_ids['clip'].shape == (1, 77)
  assert np.isfinite(text.pooled).all()
  for prompt, message in (('', 'is empty'), ('\udcff', 'is not UTF-8')):
    with pytest.raises(UserError, match=message):
      run.inputs.conditions(['a cat', prompt])


def shrink(config) -> None:
  """Sizes that fit together, without any checkpoint."""
  config.dimo.update({'steps': 1, 'batch_size': 2})
  config.dimo.divergence.chunk = 0
  config.model.text.update(
    {
      'vocab_size': 514,
      'length': 12,
      'width': 32,
      'depth': 2,
      'num_heads': 2,
      'mlp_width': 32,
      'projection_width': 32,
    }
  )
  generator, tokenizer = config.model.generator, config.model.tokenizer
  generator.update(
    {'vocab_size': 16, 'width': 32, 'num_heads': 2, 'text_width': 32}
  )
  generator.mlp_width, tokenizer.codebook_size = 32, 16
  if generator.name == 'maskgen':
    generator.update({'length': 8, 'depth': 2})
    tokenizer.update(
      {'resolution': 32, 'length': 8, 'text_width': 32, 'text_length': 12}
    )
    for coder in ('encoder', 'decoder'):
      tokenizer[f'{coder}_width'], tokenizer[f'{coder}_heads'] = 32, 2
      tokenizer[f'{coder}_depth'] = 1
  else:
    generator.update(
      {
        'grid': (4, 4),
        'joint_depth': 1,
        'single_depth': 1,
        'rope_axes': (4, 6, 6),
      }
    )
    tokenizer.level_channels = (32, 32)
