"""The warning of noise that drowns the tokens of x_init."""

from unittest import mock

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from absl import logging

from softdimo_jax import families
from softdimo_jax.families.start import Start
from softdimo_jax.training import loop
from softdimo_jax.training.distill import noise
from softdimo_jax.training.state import Frozen
from tests.families.test_text_families import configuration
from tests.training.plain_distillation import MODELS


def init(scale, unit):
  return ml_collections.ConfigDict(
    {
      'mask_ratio': 0.0,
      'max_mask_ratio': None,
      'noise_scale': scale,
      'noise_unit': unit,
    }
  )


def networks(name):
  """(family, random parameters of its generator)."""
  if name in MODELS:
    family = families.build(ml_collections.ConfigDict(MODELS[name]))
  else:
    family = families.build(configuration(name))
  rng = np.random.default_rng(0)
  draw = lambda leaf: jnp.array(0.3 * rng.normal(size=leaf.shape), leaf.dtype)
  return family, jax.tree.map(
    draw, jax.eval_shape(family.init, jax.random.key(0))
  )


@pytest.mark.parametrize('unit', ['absolute', 'table'])
@pytest.mark.parametrize('name', ['maskgit', 'maskbit', 'maskgen', 'meissonic'])
def test_noise_and_signal_are_those_of_the_input(name, unit):
  family, teacher = networks(name)
  # One entry of each sample is masked at least; there are enough others.
  draw = lambda scale: np.asarray(
    family.initial_embeddings(
      teacher, jax.random.key(0), 500, Start(0.0, scale, unit)
    )
  )
  clean = 0.8 * draw(0.0)
  found = noise.noise_and_signal(family, teacher, init(0.6, unit))
  np.testing.assert_allclose(found[0], (draw(0.6) - clean).std(), rtol=0.03)
  np.testing.assert_allclose(found[1], np.square(clean).mean() ** 0.5, rtol=0.1)


@pytest.mark.parametrize(
  ('scale', 'unit', 'drowns'),
  [(0.02, 'absolute', False), (0.5, 'absolute', True),
   (0.6, 'table', False), (0.8, 'table', True)],
)  # fmt: skip
def test_a_distillation_warns_once_when_it_starts(scale, unit, drowns):
  family, teacher = networks('maskgit')
  stage = loop.Stage(
    name='dimo', steps=1, step=None, init=None, start=None, batches=None,
    key=None, frozen=lambda: Frozen(teacher),
  )  # fmt: skip
  config = ml_collections.ConfigDict(
    {'kind': 'distill', 'init': init(scale, unit)}
  )
  with mock.patch.object(logging, 'warning') as warning:
    watched = noise.watched(stage, family, config)
    warning.assert_not_called()
    assert watched.frozen().teacher is teacher
  assert warning.called == drowns
  if drowns:
    text, *values = warning.call_args.args
    message = text % tuple(values)
    assert f'stage dimo: init.noise_scale={scale}' in message
    assert ("init.noise_unit='table'" in message.split(';')[1]) == (
      unit == 'absolute'
    )


def test_other_stages_are_left_alone():
  stage, config = object(), ml_collections.ConfigDict({'kind': 'teacher'})
  assert noise.watched(stage, None, config) is stage
