"""Passes of every objective, as docs/performance.md has them."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import pytest

from configs import maskbit
from softdimo_jax.experiment.run import Run
from softdimo_jax.planning.flops import count_flops
from softdimo_jax.planning.programs import program

BATCH = 8


def test_loops_count_as_often_as_they_run():
  x, w = jnp.zeros((4, 8)), jnp.zeros((5, 8, 8))

  def function(x, w):
    product = lambda x, w: (jax.checkpoint(jnp.dot)(x, w), None)
    return jax.lax.scan(product, x, w)[0].sum()

  assert count_flops(function, x, w) == 5 * 2 * 4 * 8 * 8
  # The gradient has two products for one, and needs only what was kept.
  gradient = jax.grad(function, argnums=(0, 1))
  assert count_flops(gradient, x, w) >= 3 * 5 * 2 * 4 * 8 * 8


def test_convolution():
  convolve = lambda x, k: jax.lax.conv(x, k, (1, 1), 'SAME')
  x, k = jnp.zeros((2, 3, 8, 8)), jnp.zeros((5, 3, 3, 3))
  assert count_flops(convolve, x, k) == 2 * (2 * 5 * 64) * 27


def passes(stage, **changes):
  """Operations of a full-size step in forward passes of the generator."""
  config = maskbit.get_config()
  config[stage].batch_size = BATCH
  config.model.generator.remat = 'none'
  config.update_from_flattened_dict(changes)
  run = Run(pathlib.Path('/'), config)
  step = program(run, stage)
  key = jax.eval_shape(lambda: jax.random.key(0))
  params = (
    step.state.model.params if stage == 'teacher' else step.frozen.teacher
  )
  embeddings = jnp.zeros((BATCH, 256, 1024))
  forward = lambda params, labels: (
    run.family.backbone(params, embeddings, labels).logits
  )
  one = count_flops(forward, params, jnp.zeros(BATCH, jnp.int32))
  return count_flops(step.step, step.state, step.batch, step.frozen, key) / one


slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
  ('stage', 'changes', 'expected'),
  [
    slow('teacher', {}, 3),
    slow('dimo', {'dimo.auxiliary.fresh_sample': False}, 8),
    ('dimo', {}, 10),
    ('softdimo', {}, 13),
    slow('softdimo', {'softdimo.gan.fakes': 'hard'}, 14),
    slow('softdimo', {'softdimo.divergence.weight': 0.0}, 6),
    slow('dimo', {'dimo.guidance_scale': 1.0}, 9),
    slow('dimo', {'model.generator.remat': 'full'}, 12),
    ('softdimo', {'model.generator.remat': 'full'}, 16),
  ],
)
def test_passes_of_an_objective(stage, changes, expected):
  assert passes(stage, **changes) == pytest.approx(expected, rel=0.03)
