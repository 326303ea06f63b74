"""The teacher stage: what is masked, and how much each entry counts."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax import defaults
from softdimo_jax.training import teacher
from softdimo_jax.training.supervised import WEIGHT

BATCH, LENGTH, GROUPS, CODES = 6, 8, 2, 3
TOKENS = np.random.default_rng(0).integers(0, CODES, (BATCH, LENGTH, GROUPS))


class Recording:
  """A family whose logits are its parameters, and which keeps its input."""

  mask_id = CODES

  def condition(self, batch):
    return None

  def dropped(self, condition, drop, null):
    return condition

  def forward(self, params, tokens, condition, *, dropout_key):
    self.masked = np.asarray(tokens == self.mask_id)
    return types.SimpleNamespace(logits=params)


def loss_of(key=0, **changes):
  """(cross entropy of random logits, its value at each entry, the mask).

  The weight of the batch among others is that of its entries.
  """
  family = Recording()
  config = defaults.teacher(1e-3, mask_schedule='cosine', **changes)
  logits = jax.random.normal(jax.random.key(5), (*TOKENS.shape, CODES))
  loss, metrics = teacher.trainer(family, config).loss(
    logits, {'tokens': jnp.asarray(TOKENS)}, None, jax.random.key(key)
  )
  log_p = np.asarray(jax.nn.log_softmax(logits))
  right = np.take_along_axis(log_p, TOKENS[..., None], -1)[..., 0]
  smoothing = config.label_smoothing
  entropy = -(1 - smoothing) * right - smoothing * log_p.mean(-1)
  weights = np.where(family.masked, 1.0, config.unmasked_weight)
  np.testing.assert_allclose(metrics[WEIGHT], weights.sum(), rtol=1e-6)
  assert metrics['cross_entropy'].weight == metrics[WEIGHT]
  assert metrics['masked_accuracy'].weight == family.masked.sum()
  return loss, entropy, family.masked


@pytest.mark.parametrize('exact', [True, False])
@pytest.mark.parametrize('weight', [0.0, 0.1, 1.0])
def test_unmasked_entries_count_with_their_weight(weight, exact):
  loss, entropy, masked = loss_of(unmasked_weight=weight, exact_count=exact)
  weights = np.where(masked, 1.0, weight)
  assert 0 < masked.mean() < 1
  np.testing.assert_allclose(
    loss, (weights * entropy).sum() / weights.sum(), rtol=1e-5
  )


def test_exact_counts_are_the_rounded_rates():
  """Half of the key draws the times; the counts follow from them alone."""
  entries = LENGTH * GROUPS
  for key in range(5):
    _, _, masked = loss_of(key, exact_count=True)
    corrupt_key = jax.random.split(jax.random.key(key), 3)[0]
    times = jax.random.uniform(jax.random.split(corrupt_key)[0], (BATCH,))
    rate = np.cos(np.pi / 2 * np.asarray(times))
    np.testing.assert_array_equal(
      masked.sum((1, 2)), np.maximum(1, np.round(entries * rate))
    )


def test_independent_counts_vary():
  """With the same times as above."""
  exact, independent = (
    np.stack([loss_of(k, exact_count=e)[2].sum((1, 2)) for k in range(5)])
    for e in (True, False)
  )
  assert (exact != independent).mean() > 0.4
  np.testing.assert_allclose(exact.mean(), independent.mean(), atol=1)


def test_the_defaults_are_those_of_maskgit_and_maskbit():
  config = defaults.teacher(1e-4)
  assert not config.exact_count
  assert config.unmasked_weight == 1
