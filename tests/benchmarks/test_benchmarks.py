"""What the benchmarks count and how they take turns."""

import os
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import devices, jax_step, sizes, timing
from softdimo_jax import families
from softdimo_jax.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
TINY = {
  'vocab_size': 30,
  'num_classes': 3,
  'length': 16,
  'width': 32,
  'depth': 2,
  'num_heads': 2,
  'mlp_width': 64,
  'unroll': 2,
}


def tiny():
  size = sizes.get('digits', batch_size=4)
  size.model.generator.update(TINY)
  size.model.tokenizer.codebook_size = TINY['vocab_size']
  return size


@pytest.mark.parametrize('name', sizes.SIZES)
def test_sizes_are_systems_in_float32(name):
  size = sizes.get(name)
  generator = families.build(size.model).generator
  assert jnp.dtype(generator.dtype) == jnp.float32
  assert sizes.get(name, remat='full').model.generator.remat == 'full'
  assert sizes.get(name, batch_size=3).distillation.batch_size == 3
  assert (size.distillation.gan.weight == 0) == (name in sizes.TORCH_SIZES)


def test_unknown_size():
  with pytest.raises(ValueError, match='choose one of'):
    sizes.get('huge')


@pytest.mark.parametrize('name', sizes.TORCH_SIZES)
def test_sizes_are_those_of_the_documents(name):
  text = (ROOT / 'benchmarks' / 'README.md').read_text().replace(',', '')
  (row,) = [line for line in text.splitlines() if f'| `{name}` |' in line]
  size = sizes.get(name)
  generator = size.model.generator
  remat = {'none': 'nothing', 'dots': 'all but matrix products'}
  numbers = (generator.width, generator.depth, generator.length)
  assert row.split(' | ')[1:] == [
    ' '.join(map(str, (*numbers, generator.vocab_size))),
    str(size.distillation.batch_size),
    f'{remat[generator.remat]} |',
  ]


@pytest.mark.parametrize(
  ('fresh', 'guidance', 'passes'),
  [(True, 2.0, 10), (False, 2.0, 8), (False, 1.0, 7)],
)
def test_passes_of_a_step(fresh, guidance, passes):
  """A backward pass is two; metrics and the inputs' missing gradient differ."""
  size = tiny()
  size.distillation.guidance_scale = guidance
  params = jax_step.synthetic_params(families.build(size.model))
  step = jax_step.JaxStep(size, params, fresh_sample=fresh)
  assert step.flops / step.forward_flops == pytest.approx(passes, rel=0.04)


def test_peaks_are_found_by_the_kind_of_device():
  assert devices.published_peak('TPU v5 lite') == 197e12
  assert devices.published_peak('TPU v5p') == 459e12
  assert devices.published_peak('NVIDIA H100 80GB HBM3') == 989e12
  assert devices.published_peak('cpu') is None


def test_programs_take_turns_after_their_warmup():
  calls = []
  programs = {name: lambda name=name: calls.append(name) for name in 'ab'}
  times = timing.alternate(programs, rounds=3, warmup=1)
  assert ''.join(calls) == 'ab' + 'ab' * 3
  assert {name: len(values) for name, values in times.items()} == {
    'a': 3, 'b': 3,
  }  # fmt: skip


def test_ratio_is_of_the_same_round():
  times = {'ours': [1.0, 2.0, 4.0], 'theirs': [2.0, 4.0, 4.0]}
  assert timing.ratio(times, 'ours', 'theirs') == 2


def run(module, *arguments):
  command = [sys.executable, '-m', f'benchmarks.{module}', *arguments]
  return subprocess.run(
    command,
    cwd=ROOT,
    env={**os.environ, 'PYTHONPATH': str(ROOT)},
    capture_output=True,
    text=True,
  )


@pytest.mark.command
@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (('train_step', '--size=maskbit', '--program=eager'), 'program eager: '),
    (('sampler', '--steps=64'), '--steps=64: an image of size digits has 16'),
  ],
)
def test_what_cannot_be_timed_is_refused(arguments, message):
  result = run(*arguments)
  assert result.returncode == 2
  assert result.stderr.splitlines()[-1].startswith(f'error: {message}')


@pytest.mark.slow
@pytest.mark.parametrize(
  ('module', 'arguments', 'expected'),
  [
    ('train_step', ('--program=shared', '--program=fresh'), 'fresh '),
    ('sampler', ('--steps=2',), '2 steps '),
  ],
)
def test_commands_print_and_write(module, arguments, expected, tmp_path):
  out = tmp_path / 'times.json'
  result = run(
    module, '--size=digits', '--batch_size=4', '--rounds=1', f'--out={out}',
    *arguments,
  )  # fmt: skip
  assert result.returncode == 0, result.stderr
  assert expected in result.stdout
  assert out.read_text().startswith('{')


def test_torch_computes_the_same_step():
  pytest.importorskip('torch', reason='torch comes with the extra `benchmark`')
  from benchmarks import agreement

  size = tiny()
  params = jax_step.synthetic_params(families.build(size.model))
  compared = agreement.check(size, params)
  assert all(np.isfinite(ours) for ours, _ in compared.values())
  size.distillation.guidance_scale = 2.0
  agreement.check(size, params)


def test_another_step_is_noticed(monkeypatch):
  pytest.importorskip('torch', reason='torch comes with the extra `benchmark`')
  from benchmarks import agreement, torch_step

  size = tiny()
  params = jax_step.synthetic_params(families.build(size.model))
  monkeypatch.setattr(
    torch_step,
    '_logit_gradient',
    lambda teacher, auxiliary, mask: (teacher - auxiliary) * mask[..., None],
  )
  with pytest.raises(UserError, match='do not compute the same'):
    agreement.check(size, params)
