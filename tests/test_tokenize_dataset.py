"""Image files to tokens: the function with a tiny tokenizer, and the command.

The command runs in processes that get real signals.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import numpy as np
import PIL.Image
import pytest

from configs import digits
from softdimo_jax import families
from softdimo_jax.convert.folder import Source, save_converted
from softdimo_jax.data.cache.records import MANIFEST
from softdimo_jax.data.cache.tokens import TokenCache
from softdimo_jax.data.images import folder as image_folder
from softdimo_jax.data.images import pixels, streams
from softdimo_jax.errors import (
  PREEMPTED_CODE,
  Preempted,
  UserError,
)
from softdimo_jax.experiment import config
from softdimo_jax.experiment.precompute.tokens import (
  TokenizationOptions,
  load_tokenizer,
)
from softdimo_jax.experiment.precompute.tokens import tokenize as write_cache
from softdimo_jax.networks.tokenizers.maskbit import MaskBitTokenizer
from softdimo_jax.runtime import checkpoint
from softdimo_jax.runtime.preemption import PreemptionNotice
from tests.commands import call, fails

SIZE = 8
TOKENIZER = MaskBitTokenizer(
  hidden_channels=8, channel_multipliers=(1, 1), num_res_blocks=1,
  embedding_dim=4, num_groups=2, num_norm_groups=4,
)  # fmt: skip


@pytest.fixture(scope='module')
def params():
  example = np.zeros((1, SIZE, SIZE, 3), np.float32)
  return jax.jit(TOKENIZER.init)(jax.random.key(0), example)['params']


def make_images(root: pathlib.Path, count: int) -> pathlib.Path:
  rng = np.random.default_rng(0)
  for i in range(count):
    path = root / f'class_{i % 2}' / f'{i:04d}.png'
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = rng.integers(0, 256, (SIZE, SIZE + i % 3, 3), np.uint8)
    PIL.Image.fromarray(noise).save(path)
  return root


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> pathlib.Path:
  """Nine images, one of which is corrupt."""
  root = make_images(tmp_path_factory.mktemp('images'), 9)
  (root / 'class_0' / '0004.png').write_bytes(b'broken')
  return root


def tokenize(folder, params, out, notice=None, **options) -> TokenCache:
  options = {'size': SIZE, 'flip': True, 'batch_size': 2} | options
  return write_cache(
    image_folder.ImageFolder(folder),
    TOKENIZER,
    params,
    out,
    TokenizationOptions(**{'images_per_shard': 3} | options),
    notice or PreemptionNotice(),
  )


def contents(folder: pathlib.Path) -> dict[str, bytes]:
  return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize('flip', [False, True])
def test_tokens_are_those_of_the_tokenizer(folder, params, tmp_path, flip):
  cache = tokenize(folder, params, tmp_path, flip=flip)
  readable = [x for x in streams.ImageFolder(folder) if x is not None]
  views = 2 if flip else 1
  everything = cache.gather(np.arange(len(cache)))['tokens']
  assert set(np.unique(everything)) == set(range(4))
  assert len(cache) == len(readable) * views == 8 * views
  for index in range(len(cache)):
    example = readable[index // views]
    flipped = flip and index % 2 == 1
    picture = pixels.to_float(pixels.square(example['image'], SIZE))[None]
    expected = TOKENIZER.apply(
      {'params': params},
      picture[:, :, ::-1] if flipped else picture,
      method='encode',
    )
    record = cache[index]
    np.testing.assert_array_equal(record['tokens'], expected[0])
    assert record['label'] == example['label']
    assert record['flipped'] == flipped


def test_manifest_names_tokenizer_source_and_skipped(folder, params, tmp_path):
  cache = tokenize(folder, params, tmp_path)
  assert (cache.spec.length, cache.spec.groups) == (16, 2)
  assert cache.spec.vocab_size == 4
  assert cache.spec.tokenizer['name'] == 'MaskBitTokenizer'
  assert cache.spec.source == streams.ImageFolder(folder).fingerprint
  assert cache.skipped == ('class_0/0004.png',)


def test_cache_knows_its_tokenizer(folder, params, tmp_path):
  cache = tokenize(folder, params, tmp_path)
  cache.check_tokenizer(TOKENIZER, jax.device_get(params))
  changed = jax.tree.map(np.array, params)
  jax.tree.leaves(changed)[-1].flat[-1] += 1e-6
  with pytest.raises(UserError, match='was made by another tokenizer'):
    cache.check_tokenizer(TOKENIZER, changed)


def test_stopping_keeps_whole_shards(folder, params, tmp_path):
  class StopsAtCheck(PreemptionNotice):
    def __init__(self, checks: int):
      super().__init__()
      self._checks = checks

    def check(self) -> None:
      self._checks -= 1
      if self._checks == 0:
        raise Preempted('stopped')

  tokenize(folder, params, tmp_path / 'whole')
  broken = tmp_path / 'broken'
  with pytest.raises(Preempted):
    tokenize(folder, params, broken, StopsAtCheck(3))  # in the second shard
  shards = json.loads((broken / MANIFEST).read_text())['shards']
  assert list(shards) == ['0']
  tokenize(folder, params, broken)
  assert contents(broken) == contents(tmp_path / 'whole')


@pytest.mark.parametrize(
  ('options', 'words'),
  [
    ({'size': 7}, 'a multiple of 2'),
    ({'batch_size': 3}, 'batch_size=3 is not divisible by the 2 devices'),
  ],
)
def test_options_that_do_not_fit(
  folder, params, tmp_path, options, words, monkeypatch
):
  monkeypatch.setattr(jax, 'local_device_count', lambda: 2)
  with pytest.raises(UserError, match=words):
    tokenize(folder, params, tmp_path, **options)
  assert not any(tmp_path.iterdir())


@pytest.fixture(scope='module')
def workdir(tmp_path_factory) -> pathlib.Path:
  """Of a run whose tokenizer has not learnt anything."""
  folder = tmp_path_factory.mktemp('run')
  settings = digits.get_config('tiny')
  config.claim_workdir(folder, settings)
  tokenizer = families.build(settings.model).tokenizer
  example = np.zeros((1, SIZE, SIZE, 1), np.float32)
  params = jax.jit(tokenizer.init)(jax.random.key(0), example)['params']
  checkpoint.save_params(folder / 'tokenizer' / 'params', {'model': params})
  return folder


def test_tokenizer_of_a_converted_checkpoint(params, tmp_path):
  options = {
    name: getattr(TOKENIZER, name)
    for name in (
      'hidden_channels',
      'channel_multipliers',
      'num_res_blocks',
      'embedding_dim',
      'num_groups',
      'num_norm_groups',
    )
  }
  source = Source(weights='w', file='f', sha256='0')
  save_converted(tmp_path / 'a', 'maskbit_tokenizer', options, params, source)
  module, loaded = load_tokenizer(str(tmp_path / 'a'), None)
  assert module == TOKENIZER
  jax.tree.map(np.testing.assert_array_equal, loaded, jax.device_get(params))
  save_converted(tmp_path / 'b', 'maskgit', {}, params, source)
  with pytest.raises(
    UserError, match='contains a MaskGitTransformer, which is not'
  ):
    load_tokenizer(str(tmp_path / 'b'), None)


@pytest.mark.command
def test_command_survives_signals(workdir, tmp_path):
  """On two devices; the bytes are those of one process on one device."""
  root = make_images(tmp_path / 'images', 120)
  (root / 'class_1' / '0119.png').write_bytes(b'broken')
  out = tmp_path / 'out'
  arguments = (
    *(f'--data={root}', f'--workdir={workdir}', f'--out={out}', '--flip'),
    *(f'--size={SIZE}', '--batch_size=2', '--images_per_shard=2'),
  )
  flags = os.environ['XLA_FLAGS'] + ' --xla_force_host_platform_device_count=2'
  environment = {
    'XLA_FLAGS': flags,
    # Only the first process compiles.
    'JAX_COMPILATION_CACHE_DIR': str(tmp_path / 'compilation_cache'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
  }
  start = lambda: subprocess.Popen(
    [sys.executable, '-m', 'softdimo_jax.tokenize_dataset', *arguments],
    env=os.environ | environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )

  def interrupt(moment: Callable[[], bool], number: signal.Signals) -> int:
    process = start()
    deadline = time.monotonic() + 120
    while not moment():
      assert process.poll() is None, process.communicate()
      assert time.monotonic() < deadline, 'the moment never came'
      time.sleep(0.001)
    process.send_signal(number)
    process.communicate(timeout=120)
    return process.returncode

  written = lambda: len(list(out.glob('tokens-*')))
  assert interrupt(lambda: written() >= 3, signal.SIGTERM) == PREEMPTED_CODE
  before = written()
  assert before < 60
  killed = interrupt(lambda: written() >= before + 3, signal.SIGKILL)
  assert killed == -signal.SIGKILL and written() < 60

  process = start()
  stdout, stderr = process.communicate(timeout=120)
  assert process.returncode == 0, stderr
  assert f'238 records of 120 images in {out}' in stdout
  assert '1 unreadable images' in stdout and 'class_1/0119.png' in stdout
  assert 'left' in stderr and 'tokenize' in stderr

  settings = config.load(workdir)
  whole = write_cache(
    streams.ImageFolder(root, channels=1),
    families.build(settings.model).tokenizer,
    checkpoint.load_params(workdir / 'tokenizer' / 'params')['model'],
    tmp_path / 'whole',
    TokenizationOptions(size=SIZE, flip=True, batch_size=2, images_per_shard=2),
    PreemptionNotice(),
  )
  assert len(whole) == 238
  assert contents(out) == contents(tmp_path / 'whole')


def test_command_names_the_mistake(workdir, tmp_path):
  out = tmp_path / 'out'
  arguments = (f'--data={tmp_path}', f'--workdir={workdir}', f'--out={out}')
  fails(call('tokenize_dataset', *arguments), 'error: image folder')
  assert not out.exists()
