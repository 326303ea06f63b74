"""Couplings of the teacher, and the one-step student of them."""

import types

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from softdimo_jax import defaults
from softdimo_jax.experiment.couplings import couplings
from softdimo_jax.training import rectify
from tests.training.plain_distillation import (
  CODES,
  LENGTH,
  build,
  parameters,
  quick_jit,
)


def stage(**changes):
  config = defaults.rectify(
    'teacher', 1e-2, num_examples=12, teacher_steps=16, batch_size=8, steps=150
  )
  config.optimizer.warmup_steps = 0
  config.update_from_flattened_dict(changes)
  return config


@pytest.mark.parametrize(('name', 'ratio'), [('maskgit', 0.75), ('maskbit', 1)])
def test_the_teacher_fills_in_what_the_start_masks(name, ratio):
  family = build(name)
  run = types.SimpleNamespace(
    config=ml_collections.ConfigDict(
      {
        'redi': stage(**{'init.mask_ratio': float(ratio)}),
        'sampling': defaults.random_order(4),
      }
    ),
    family=family,
    null=None,
    inputs=None,
    seed=lambda _: 3,
    params=lambda _: parameters(name, 0),
  )
  pairs = couplings(run, 'redi')
  initial, tokens = pairs['initial'], pairs['tokens']
  assert initial.shape == tokens.shape == (12, *family.token_shape)
  masked = initial == family.mask_id
  assert (masked.sum((1, 2)) == round(ratio * LENGTH * masked.shape[2])).all()
  np.testing.assert_array_equal(tokens[~masked], initial[~masked])
  assert tokens.max() < family.vocab_size
  np.testing.assert_array_equal(pairs['label'], np.zeros(12))  # one class
  assert len(np.unique(tokens, axis=0)) > 6


def test_the_student_learns_its_couplings_in_one_step():
  """Eight of them, which a factorised student can only learn from x0."""
  family, teacher = build('maskgit'), parameters('maskgit', 0)
  rng = np.random.default_rng(0)
  shape = (8, LENGTH, 1)
  batch = {
    'initial': rng.integers(0, CODES, shape),
    'tokens': rng.integers(0, CODES, shape),
    'label': np.zeros(8, int),
  }
  trainer = rectify.trainer(
    family, stage(**{'init.noise_scale': 0.0, 'label_smoothing': 0.0})
  )
  trained, frozen = family.split(teacher)
  state = quick_jit(trainer.init)(trained)
  step = quick_jit(trainer.step)
  for _ in range(150):
    state, metrics = step(state, batch, teacher, jax.random.key(0))
  assert metrics['accuracy'] == 1
  assert not set(frozen) & set(state.model.params)


def test_the_start_is_perturbed():
  """As in the distillation that follows, with fresh noise in every step."""
  family, teacher = build('maskgit'), parameters('maskgit', 0)
  tokens = jnp.zeros((2, LENGTH, 1), jnp.int32)
  batch = {'initial': tokens, 'tokens': tokens, 'label': np.zeros(2, int)}
  for scale in (0.0, 0.9):
    trainer = rectify.trainer(family, stage(**{'init.noise_scale': scale}))
    loss = quick_jit(trainer.loss)
    trained = family.split(teacher)[0]
    values = [
      float(loss(trained, batch, teacher, jax.random.key(seed))[0])
      for seed in range(2)
    ]
    assert (abs(values[0] - values[1]) > 1e-5) == (scale > 0)
