"""From official text-to-image checkpoints to distilled images."""

import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image

from configs import maskgen as maskgen_config
from softdimo_jax.data.cache.prompts import PromptCache
from softdimo_jax.data.cache.records import MANIFEST
from softdimo_jax.data.prompts import sources
from softdimo_jax.errors import PREEMPTED_CODE, Preempted, UserError
from softdimo_jax.experiment import config as config_lib
from softdimo_jax.experiment import methods, stages, validation
from softdimo_jax.experiment.inputs import Draw
from softdimo_jax.experiment.precompute.prompts import EncodingOptions
from softdimo_jax.experiment.precompute.prompts import encode as encode_prompts
from softdimo_jax.experiment.run import Run
from softdimo_jax.method import sampling
from softdimo_jax.runtime import checkpoint, sharding
from softdimo_jax.runtime.preemption import PreemptionNotice
from tests import released
from tests.commands import call, fails, succeeds
from tests.experiment import official_text

SYSTEMS = ('maskgen', 'meissonic')
TEXTS = ('a cat', 'hot dogs', 'a dog, a cat', 'x' * 10_000)


def load(folder: pathlib.Path, variants: str = 'all'):
  """The configuration file of a folder that `make` has filled."""
  return runpy.run_path(str(folder / 'small.py'))['get_config'](variants)


def make(name: str, folder: pathlib.Path) -> pathlib.Path:
  """Converted checkpoints, tiny rewards, prompts, and small.py."""
  official_text.save(name, folder)
  for family in ('clip', 'image_reward'):
    released.save(folder / family, family)
  (folder / 'prompts.txt').write_text('\n'.join(TEXTS))
  official_text.small_config(name, folder)
  return folder


@pytest.fixture(scope='module')
def maskgen(tmp_path_factory) -> pathlib.Path:
  return make('maskgen', tmp_path_factory.mktemp('maskgen'))


@pytest.fixture(scope='module')
def meissonic(tmp_path_factory) -> pathlib.Path:
  return make('meissonic', tmp_path_factory.mktemp('meissonic'))


def encode(folder: pathlib.Path, notice=None, **options) -> PromptCache:
  config = load(folder)
  run = Run(folder, config)
  options = {'batch_size': 2, 'prompts_per_shard': 2} | options
  return encode_prompts(
    sources.read(str(folder / 'prompts.txt')),
    run.inputs,
    folder / 'prompts',
    EncodingOptions(**options),
    notice or PreemptionNotice(),
  )


# Both run as commands in a slow test.
@pytest.mark.parametrize(
  'name', ['maskgen', pytest.param('meissonic', marks=pytest.mark.slow)]
)
def test_prompts_to_distilled_images(name, request, tmp_path, caplog):
  system = request.getfixturevalue(name)
  cache = encode(system)
  assert len(cache) == 4 and cache.num_cut == 1
  told = [text for text in caplog.messages if 'longer than the 12' in text]
  assert len(told) == 1 and told[0].startswith('1 of 4 prompts')

  config = load(system, 'reward')
  config.pretrained.dimo = config.pretrained.teacher
  validation.validate(config)
  run = Run(tmp_path / 'run', config)
  run.check_inputs()
  check_features(run, cache)
  stages.train(run, sharding.make_mesh(), PreemptionNotice())
  rows = (run.folder('softdimo') / 'metrics.jsonl').read_text().splitlines()
  last = json.loads(rows[-1])
  assert all(np.isfinite(x) for x in last.values())
  assert last['dimo/discrepancy'] >= 0 and 'reward/imagereward' in last
  moved = jax.tree.map(
    lambda a, b: float(np.abs(a - b).max()),
    run.params('teacher'),
    checkpoint.load_params(run.folder('softdimo') / 'params')['model'],
  )
  assert moved['tok_emb'] == 0 and max(jax.tree.leaves(moved)) > 0

  terms = config.softdimo.reward.terms
  conditions = run.inputs.conditions(['a cat', 'a dog'], terms)
  assert set(conditions.prompt_ids) == set(terms)
  for stage in ('softdimo', 'teacher'):
    _, images = methods.sampled(run, stage, 2).generate(
      run.params(stage),
      run.params('tokenizer'),
      sampling.image_keys(0, 2),
      conditions.take(np.arange(2)),
      conditions.prompt_ids,
    )
    assert images.shape == (2, 32, 32, 3) and np.isfinite(images).all()


def check_features(run: Run, cache: PromptCache) -> None:
  """The cache holds what the tower says, and the unconditional prompt."""
  null = run.config.model.prompt.null
  for texts, found in (
    ([null], cache.null),
    (list(TEXTS[:2]), cache.gather(np.arange(2))),
  ):
    assert list(found.texts) == texts
    expected = run.inputs.encode(run.inputs.tokenizer(texts).ids)
    for name, values in found.features.items():
      wanted = getattr(expected, name)
      np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-5)
  batch = next(run.inputs.tokens(Draw(3, 0), ('clip',)))
  assert batch['text'].micro.shape == (3, len(run.family.micro))
  assert batch['prompt_ids']['clip'].shape == (3, 12)
  second = next(run.inputs.tokens(Draw(3, 0, np.array([1]))))
  np.testing.assert_array_equal(
    second['text'].pooled, batch['text'].pooled[1:2]
  )


def test_encoding_goes_on_with_identical_bytes(maskgen):
  class StopsAtCheck(PreemptionNotice):
    def check(self) -> None:
      self.left = getattr(self, 'left', 2) - 1
      if not self.left:
        raise Preempted('stopped')

  contents = lambda: {
    path.name: path.read_bytes() for path in (maskgen / 'prompts').iterdir()
  }
  encode(maskgen)
  whole = contents()
  for path in (maskgen / 'prompts').iterdir():
    path.unlink()
  with pytest.raises(Preempted):
    encode(maskgen, StopsAtCheck())
  shards = json.loads((maskgen / 'prompts' / MANIFEST).read_text())['shards']
  assert list(shards) == ['0']
  encode(maskgen)
  assert contents() == whole


@pytest.mark.parametrize('weights', ['rule', 'converted'])
@pytest.mark.parametrize(
  ('variants', 'last'),
  [('all', 'softdimo'), ('dimo', 'dimo'), ('tteo', 'softdimo')],
)
def test_the_most_distilled_model_is_sampled(variants, last, weights, tmp_path):
  config = maskgen_config.get_config(variants)
  config.weights, config.pretrained.teacher = weights, 'somewhere'
  if variants == 'tteo':
    config.pretrained.softdimo = 'somewhere'
  config_lib.claim_workdir(tmp_path, config)
  run = Run(tmp_path, config_lib.load(tmp_path))
  assert run.generator() == last
  assert run.generator('teacher') == 'teacher'
  with pytest.raises(UserError, match='--model=text is not one of this run'):
    run.generator('text')


def test_what_is_missing_is_named_before_training(maskgen, tmp_path):
  encode(maskgen)
  check = lambda config: Run(tmp_path, config).check_inputs()
  for field, value, message in (
    ('pretrained.text', '', r'config\.pretrained\.text names no weights'),
    ('pretrained.text', str(maskgen / 'tokenizer'), 'must be a CLIPTextTower'),
    ('data.prompts', '', 'names no prompt cache: write one'),
    ('data.prompts', str(maskgen), 'is not a prompt cache'),
    ('data.prompts', str(maskgen / 'prompts.txt'), 'is a file; encode it'),
    ('data.vocabulary', str(maskgen), r'no vocab\.json.*config\.data\.vocab'),
    ('model.prompt.null', 'ugly', 'with another unconditional prompt'),
    ('model.prompt.pad_id', 3, 'with other token ids: pad_id is 0, not 3'),
    ('rewards.weights.clip', str(maskgen / 'none'), 'none'),
  ):
    config = load(maskgen)
    config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message):
      check(config)
  assert not list(tmp_path.iterdir())


def test_another_tower_is_refused(maskgen, tmp_path):
  encode(maskgen)
  config = load(maskgen)
  run = Run(tmp_path, config)
  tower = jax.tree.map(np.array, run.inputs.tower)
  tower['projection'] = tower['projection'] + 1e-3
  run.inputs.__dict__['tower'] = tower
  with pytest.raises(UserError, match='by another text tower: params_sha256'):
    run.check_inputs()


def command(folder: pathlib.Path, *arguments: str) -> list[str]:
  return [
    *(f'--config={folder / "small.py"}', f'--prompts={folder / "prompts.txt"}'),
    *(f'--out={folder / "encoded"}', '--batch_size=2', *arguments),
  ]


@pytest.mark.slow
@pytest.mark.parametrize('name', SYSTEMS)
def test_commands(name, request, tmp_path):
  """As a user runs them; encoding is killed and goes on."""
  system = request.getfixturevalue(name)
  (system / 'prompts.txt').write_text(
    '\n'.join(f'a cat {i}' for i in range(399))
  )
  arguments = command(system, '--prompts_per_shard=2')
  start = lambda: subprocess.Popen(
    [sys.executable, '-m', 'softdimo_jax.encode_prompts', *arguments],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  written = lambda: len(list((system / 'encoded').glob('prompts-*')))
  for number in (signal.SIGKILL, signal.SIGTERM):
    process, before = start(), written()
    while written() < before + 3:
      assert process.poll() is None, process.communicate()
      time.sleep(0.001)
    process.send_signal(number)
    process.communicate(timeout=120)
    wanted = PREEMPTED_CODE if number == signal.SIGTERM else -number
    assert process.returncode == wanted
  result = succeeds(call('encode_prompts', *arguments))
  assert '399 prompts in' in result.out and 'encode' in result.err

  at = f'--workdir={tmp_path / "run"}'
  data = f'--config.data.prompts={system / "encoded"}'
  result = succeeds(call('main', f'--config={system / "small.py"}', at, data))
  for stage in ('dimo', 'softdimo'):
    rows = tmp_path / 'run' / stage / 'metrics.jsonl'
    last = json.loads(rows.read_text().splitlines()[-1])
    assert all(np.isfinite(x) for x in last.values())
    assert last['dimo/discrepancy'] >= 0
    assert ('reward/imagereward' in last) == (stage == 'softdimo')
  out = tmp_path / 'grid.png'
  result = succeeds(
    call('sample', at, '--prompt=a cat', '--num=1', f'--out={out}')
  )
  assert Image.open(out).size[0] > 32
  result = succeeds(
    call(
      *('tteo', at, '--prompt=a cat', '--prompt=dogs', '--starts=2'),
      *('--steps=1', f'--out={tmp_path / "tteo"}'),
    )
  )
  result = succeeds(
    call(
      *('export', at, f'--prompts={system / "prompts.txt"}', '--num=3'),
      *('--batch_size=2', f'--out={tmp_path / "out.npz"}'),
    )
  )
  assert np.load(tmp_path / 'out.npz')['arr_0'].shape == (3, 32, 32, 3)
  fails(call('sample', at, '--labels=1'), '--prompt')


def test_the_command_names_the_mistake(tmp_path):
  prompts = tmp_path / 'prompts.txt'
  prompts.write_bytes('ein grüner Kreis'.encode('latin-1'))
  arguments = ('--config=configs/maskgen.py', f'--out={tmp_path / "out"}')
  fails(call('encode_prompts', *arguments, f'--prompts={prompts}'), 'not UTF-8')
  prompts.write_text('a cat')
  fails(
    call('encode_prompts', *arguments, f'--prompts={prompts}'),
    'config.pretrained.text names no weights',
  )
  fails(
    call(
      'encode_prompts',
      '--config=configs/shapes.py',
      f'--out={tmp_path / "out"}',
      f'--prompts={prompts}',
    ),
    'does not read a prompt cache',
  )
  assert os.listdir(tmp_path) == ['prompts.txt']
