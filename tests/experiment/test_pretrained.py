"""From official checkpoints to distilled, sampled and exported images."""

import json
import pathlib

import jax
import numpy as np
import pytest
from PIL import Image

from configs import maskbit, maskgit
from softdimo_jax.convert import command
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import config as config_lib
from softdimo_jax.experiment import pretrained, stages, validation
from softdimo_jax.experiment.run import Run
from softdimo_jax.runtime import checkpoint, sharding
from softdimo_jax.runtime.preemption import PreemptionNotice
from tests.commands import call, fails, succeeds
from tests.convert import torch_format
from tests.golden.weights import load

ROOT = pathlib.Path(__file__).parents[2]
GOLDEN = ROOT / 'tests' / 'golden'
# (family, fixture, model in it, what no shape tells) of teacher and tokenizer
SYSTEMS = {
  'maskgit': (
    (
      'maskgit',
      'maskgit_transformer',
      None,
      {'num_heads': 4, 'num_classes': 5},
    ),
    ('taming_vqgan', 'maskgit_vqgan', None, {}),
  ),
  'maskbit': (
    ('maskbit', 'maskbit_generator', 'b10s2', {'num_heads': 4}),
    ('maskbit_tokenizer', 'maskbit_tokenizer', 'lfq10', {'num_groups': 2}),
  ),
}
# A shipped configuration with the sizes of converted checkpoints.
SMALL = """
import json

from configs import {system}


def get_config(variant='all'):
  config = {system}.get_config(variant)
  for part, folder in (('generator', 'teacher'), ('tokenizer', 'tokenizer')):
    options = json.load(open({folder!r} + '/' + folder + '/model.json'))
    config.model[part].update(options['options'])
    config.pretrained[folder] = {folder!r} + '/' + folder
  for stage in ('dimo', 'softdimo'):
    config[stage].steps = 3
    config[stage].batch_size = 4
    config[stage].gan.taps = (0, 1)
  config.data.tokens = {folder!r} + '/tokens'
  config.sampling.steps = 4
  return config
"""


def convert(system: str, folder: pathlib.Path) -> None:
  """Official files of teacher and tokenizer, converted as a user does."""
  for role, (family, fixture, model, told) in zip(
    ('teacher', 'tokenizer'), SYSTEMS[system], strict=True
  ):
    _, state, _ = load(GOLDEN, fixture)
    file = folder / f'{role}.bin'
    torch_format.save(file, state[model] if model else state)
    command.run(
      command.Conversion(family, str(file), out=folder / role, overrides=told)
    )


def save_images(folder: pathlib.Path) -> None:
  """Five classes of two random 20x24 pictures, and a broken one."""
  rng = np.random.default_rng(0)
  for label in range(5):
    (folder / f'class_{label}').mkdir(parents=True)
    for index in range(2):
      pixels = rng.integers(256, size=(20, 24, 3), dtype=np.uint8)
      Image.fromarray(pixels).save(folder / f'class_{label}' / f'{index}.png')
  (folder / 'class_0' / 'broken.png').write_bytes(b'no picture')


# tests/test_text_to_image.py takes the same road in the default suite.
@pytest.mark.slow
@pytest.mark.parametrize('system', SYSTEMS)
def test_official_checkpoint_to_exported_images(system, tmp_path):
  convert(system, tmp_path)
  save_images(tmp_path / 'images')

  size = 16  # 4x4 tokens of 4 pixels
  tokenized = call(
    'tokenize_dataset',
    f'--data={tmp_path / "images"}',
    f'--tokenizer={tmp_path / "tokenizer"}',
    f'--out={tmp_path / "tokens"}',
    f'--size={size}',
    '--flip',
    '--batch_size=4',
  )
  succeeds(tokenized)
  assert 'broken.png' in tokenized.out and '20 records' in tokenized.out
  (tmp_path / 'small.py').write_text(
    SMALL.format(system=system, folder=str(tmp_path))
  )
  config, at = f'--config={tmp_path / "small.py"}', f'--workdir={tmp_path}/run'
  succeeds(call('main', config, at))
  for name in ('dimo', 'softdimo'):
    rows = (tmp_path / 'run' / name / 'metrics.jsonl').read_text().splitlines()
    assert all(np.isfinite(x) for x in json.loads(rows[-1]).values())

  out = tmp_path / 'samples.npz'
  succeeds(call('export', at, '--num=7', f'--out={out}', '--batch_size=4'))
  images = np.load(out)['arr_0']
  assert images.shape == (7, size, size, 3) and images.dtype == np.uint8
  grid = tmp_path / 'grid.png'
  succeeds(call('sample', at, '--model=teacher', '--num=4', f'--out={grid}'))
  assert Image.open(grid).size[0] > 2 * size
  before = pretrained.load(
    Run(tmp_path / 'run', config_lib.load(tmp_path / 'run')).family,
    'teacher',
    'converted',
    str(tmp_path / 'teacher'),
  )
  after = checkpoint.load_params(tmp_path / 'run' / 'softdimo' / 'params')
  moved = jax.tree.map(
    lambda a, b: float(np.abs(a - b).max()), before, after['model']
  )
  assert moved['pos_emb'] == 0
  assert max(jax.tree.leaves(moved['layers'])) > 0


def full_size(name: str, variant: str = 'all'):
  return {'maskbit': maskbit, 'maskgit': maskgit}[name].get_config(variant)


@pytest.mark.parametrize('variant', ['tokenizer', 'teacher', 'gan'])
def test_stages_at_size_stream_their_data(variant, tmp_path):
  save_images(tmp_path / 'images')
  config = full_size('maskbit', variant)
  config.weights, config.data.name = 'rule', str(tmp_path / 'images')
  config.model.generator.update(
    {'length': 16, 'width': 32, 'depth': 2, 'num_heads': 2, 'mlp_width': 64}
  )
  config.model.tokenizer.update(
    {
      'hidden_channels': 8,
      'channel_multipliers': (1, 2),
      'num_res_blocks': 1,
      'num_norm_groups': 4,
    }
  )
  (name,) = config.stages
  config[name].update({'steps': 2, 'batch_size': 4})
  if variant == 'gan':
    config[name].gan.taps = (0, 1)
  validation.validate(config)
  run = Run(tmp_path / 'run', config)
  run.check_inputs()
  stages.train(run, sharding.make_mesh(), PreemptionNotice())
  assert run.done(name) and not run.left
  leaves = jax.tree.leaves(run.params(name))
  assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_sizes_are_the_official_ones():
  count = lambda shapes: sum(x.size for x in jax.tree.leaves(shapes))
  for name, generator, tokenizer in (
    ('maskgit', 174_160_874, 72_141_699),
    ('maskbit', 304_929_024, 54_489_489),
  ):
    run = Run(pathlib.Path('/nowhere'), full_size(name))
    key = jax.random.key(0)
    assert count(jax.eval_shape(run.family.init, key)) == generator
    # Buffers that the code computes are no parameters of ours.
    assert count(jax.eval_shape(run.family.init_tokenizer, key)) <= tokenizer
    assert run.family.image_shape == (256, 256, 3)


def test_missing_weights_and_tokens_are_named_before_training(tmp_path):
  config = full_size('maskgit', 'gan')
  run = Run(tmp_path, config)
  with pytest.raises(UserError, match=r'config\.pretrained\.\w+ names'):
    run.check_inputs()
  for stage in config.pretrained:
    config.pretrained[stage] = str(tmp_path / 'none')
  with pytest.raises(UserError, match='is not a folder'):
    run.check_inputs()
  assert not list(tmp_path.iterdir())


def test_weights_of_another_model_are_refused(tmp_path):
  convert('maskgit', tmp_path)
  family = Run(tmp_path, full_size('maskgit')).family
  with pytest.raises(UserError, match=r'but config\.model has'):
    pretrained.load(family, 'teacher', 'converted', str(tmp_path / 'teacher'))
  with pytest.raises(UserError, match='must be a MaskGitTransformer'):
    pretrained.load(family, 'teacher', 'converted', str(tmp_path / 'tokenizer'))
  tiny = {'model': {'tok_emb': np.zeros((3, 2), np.float32)}}
  checkpoint.save_params(tmp_path / 'stage' / 'params', tiny)
  with pytest.raises(UserError, match='differs in size'):
    pretrained.load(family, 'teacher', 'converted', str(tmp_path / 'stage'))


def test_workdir_of_a_full_size_run_needs_its_tokens(tmp_path):
  result = call(
    'main',
    '--config=configs/maskbit.py:gan',
    f'--workdir={tmp_path / "run"}',
    '--config.weights=magic',
  )
  fails(result, 'config.weights', 'converted', 'rule')
