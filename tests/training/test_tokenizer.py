"""Restarting unused codes of a codebook."""

import chex
import jax
import numpy as np
import pytest

from softdimo_jax.training.tokenizer import restart_unused


def page(rare: int) -> tuple[np.ndarray, np.ndarray]:
  """(latents [4, 250, 2], all zero but the last `rare` ones; codebook)."""
  latents = np.zeros((1000, 2), np.float32)
  latents[-rare:] = 1 + np.arange(2 * rare).reshape(rare, 2)
  codebook = np.full((8, 2), -100, np.float32)
  codebook[0] = 0
  return latents.reshape(4, 250, 2), codebook


@pytest.mark.parametrize('power', [0.0, 2.0])
def test_unused_codes_move_onto_latents_and_used_ones_stay(power):
  latents, codebook = page(rare=5)
  moved = restart_unused(jax.random.key(0), codebook, latents, power=power)
  chex.assert_shape(moved, codebook.shape)
  np.testing.assert_array_equal(moved[0], codebook[0])
  everything = {tuple(row) for row in latents.reshape(-1, 2)}
  assert {tuple(row) for row in np.asarray(moved)} <= everything


def test_with_a_power_codes_move_to_rare_latents():
  latents, codebook = page(rare=5)
  moved = restart_unused(jax.random.key(0), codebook, latents, power=2.0)
  assert (np.asarray(moved[1:]) > 0).all()


def test_latents_that_equal_codes_are_no_error():
  latents, codebook = np.zeros((1, 9, 2), np.float32), page(rare=1)[1]
  moved = restart_unused(jax.random.key(0), codebook, latents, power=2.0)
  np.testing.assert_array_equal(moved, np.zeros_like(codebook))
