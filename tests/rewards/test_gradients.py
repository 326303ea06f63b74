"""Gradients of every reward, from image to score, against finite differences.

In float64, where central differences are exact to many digits; images are
resized, cropped and normalised on the way.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax import rewards
from tests import released

STEP = 1e-5
KINDS = {
  'clip': 'clip',
  'hpsv2': 'clip',
  'pickscore': 'clip',
  'imagereward': 'image_reward',
  'aesthetic': 'aesthetic_head',
}


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  root = tmp_path_factory.mktemp('weights')
  kinds = KINDS | {'aesthetic_clip': 'clip'}
  return {
    name: released.save(root / name, family) for name, family in kinds.items()
  }


def in_float64(reward):
  """The reward with every product in float64."""
  parts = {}
  for name in ('module', 'image', 'head'):
    part = getattr(reward, name, None)
    if part is None:
      continue
    if hasattr(part, 'dtype'):
      parts[name] = part.clone(dtype=jnp.float64)
    else:
      parts[name] = part.clone(
        image=part.image.clone(dtype=jnp.float64),
        text=part.text.clone(dtype=jnp.float64),
      )
  return dataclasses.replace(reward, **parts)


@pytest.mark.parametrize('antialias', [True, False])
@pytest.mark.parametrize('name', KINDS)
def test_gradients_are_finite_differences(weights, name, antialias):
  if not antialias and name != 'hpsv2':
    pytest.skip('the resize is the same for all')
  config = {
    'terms': {name: 2.0},
    'weights': weights,
    'clip_vocabulary': 'rule',
    'bert_vocabulary': 'rule',
    'antialias': antialias,
  }
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):
    combined = rewards.build(config)
    combined = dataclasses.replace(
      combined, rewards={name: in_float64(combined.rewards[name])}
    )
    params = jax.tree.map(
      lambda x: jnp.asarray(x, jnp.float64), combined.load_params()
    )
    captions = combined.captions(['a red cube', 'two'])
    score = jax.jit(lambda x: combined.score(params, x, captions).sum())
    images = jnp.asarray(rng.random((2, 11, 13, 3)))
    gradient = jax.jit(jax.grad(score))(images)
    assert gradient.dtype == jnp.float64 and np.isfinite(gradient).all()
    for _ in range(3):
      direction = jnp.asarray(rng.normal(size=images.shape))
      change = score(images + STEP * direction)
      change -= score(images - STEP * direction)
      np.testing.assert_allclose(
        (gradient * direction).sum(), change / (2 * STEP), rtol=1e-4
      )
    # At a constant image nothing divides by zero.
    assert np.isfinite(jax.jit(jax.grad(score))(0 * images)).all()
