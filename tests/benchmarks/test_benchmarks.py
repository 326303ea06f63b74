"""What the benchmarks count and how they take turns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import flops, jax_step, sizes, timing
from softdimo_jax import families
from softdimo_jax.errors import UserError

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
  size = sizes.get('digits', 4)
  size.model.generator.update(TINY)
  size.model.tokenizer.codebook_size = TINY['vocab_size']
  return size


@pytest.mark.parametrize('name', sizes.SIZES)
def test_sizes_are_systems_in_float32_without_recomputation(name):
  size = sizes.get(name)
  generator = families.build(size.model).generator
  assert jnp.dtype(generator.dtype) == jnp.float32
  assert generator.remat == 'none'
  assert sizes.get(name, 3).distillation.batch_size == 3
  assert size.distillation.gan.weight == size.distillation.reward.weight == 0


def test_unknown_size():
  with pytest.raises(ValueError, match='choose one of'):
    sizes.get('huge')


def test_medium_is_what_the_documents_call_medium():
  generator = sizes.get('medium').model.generator
  assert (generator.width, generator.depth, generator.length) == (512, 12, 256)


def test_forward_pass_is_counted_as_the_compiler_counts_it():
  """Without a loop its count is right; it has the pointwise work besides."""
  size = tiny()
  family = families.build(size.model)
  params = jax_step.made_up_params(family)
  embeddings = jnp.zeros((1, TINY['length'], TINY['width']))
  forward = lambda params, x: family.backbone(params, x, jnp.zeros(1, int))
  lowered = jax.jit(lambda *args: forward(*args).logits).lower(
    params, embeddings
  )
  counted = lowered.compile().cost_analysis()['flops']
  ours = flops.maskgit_forward(size.model.generator)
  assert 0.8 < ours / counted < 1


def test_passes_of_the_official_order():
  config = sizes.get('medium').distillation
  assert config.auxiliary.fresh_sample
  assert flops.dimo_passes(config).equivalent == 10
  config.auxiliary.fresh_sample = False
  assert flops.dimo_passes(config).equivalent == 8
  config.guidance_scale = 1
  assert flops.dimo_passes(config).equivalent == 7


def test_peaks_are_found_by_the_kind_of_device():
  assert flops.peak('TPU v5 lite') == 197e12
  assert flops.peak('TPU v5p') == flops.peak('TPU v5') == 459e12
  assert flops.peak('NVIDIA H100 80GB HBM3') == 989e12
  assert flops.peak('cpu') is None


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


def test_torch_computes_the_same_step():
  pytest.importorskip('torch', reason='torch comes with the extra `benchmark`')
  from benchmarks import agreement

  size = tiny()
  params = jax_step.made_up_params(families.build(size.model))
  compared = agreement.check(size, params)
  assert all(np.isfinite(ours) for ours, _ in compared.values())
  size.distillation.guidance_scale = 2.0
  agreement.check(size, params)


def test_another_step_is_noticed(monkeypatch):
  pytest.importorskip('torch', reason='torch comes with the extra `benchmark`')
  from benchmarks import agreement, torch_step

  size = tiny()
  params = jax_step.made_up_params(families.build(size.model))
  monkeypatch.setattr(
    torch_step,
    '_logit_gradient',
    lambda teacher, auxiliary, mask: (auxiliary - teacher) * mask[..., None],
  )
  with pytest.raises(UserError, match='do not compute the same'):
    agreement.check(size, params)
