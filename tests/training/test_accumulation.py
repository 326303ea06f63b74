import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.training.accumulation import (
  Weighted,
  mean_and_rows,
  mean_of_parts,
)


def gradient(batch, key):
  noise = jax.random.normal(key, ())
  return {'mean': batch['x'].mean(0), 'noise': noise}


def test_mean_of_parts_is_that_of_the_batch_with_a_draw_for_each():
  batch = {'x': jnp.arange(24.0).reshape(12, 2)}
  key = jax.random.key(0)
  whole = mean_of_parts(gradient, batch, key, 1)
  parts = jax.jit(lambda b: mean_of_parts(gradient, b, key, 3))(batch)
  np.testing.assert_allclose(parts['mean'], whole['mean'], rtol=1e-6)
  draws = [jax.random.normal(jax.random.fold_in(key, i), ()) for i in range(3)]
  np.testing.assert_allclose(parts['noise'], np.mean(draws), rtol=1e-6)


def test_parts_of_no_data():
  count = mean_of_parts(
    lambda batch, key: jnp.float32(len(batch)), {}, jax.random.key(0), 4
  )
  assert count == 0


def test_rows_are_kept_in_the_order_of_the_batch():
  batch = {'x': jnp.arange(24.0).reshape(12, 2)}
  function = lambda part, key: (part['x'].sum(), {'twice': 2 * part['x']})
  for parts in (1, 3):
    total, rows = mean_and_rows(function, batch, jax.random.key(0), parts)
    np.testing.assert_allclose(total, batch['x'].sum() / parts)
    np.testing.assert_array_equal(rows['twice'], 2 * batch['x'])


@pytest.mark.parametrize('parts', [1, 2, 4])
def test_a_masked_mean_is_that_of_the_whole_batch(parts):
  mask = jnp.arange(8) < 3  # parts 0, 1 and 2 have one entry, part 3 has none
  batch = {'x': jnp.arange(8.0), 'mask': mask}

  def function(part, key):
    count = part['mask'].sum().astype(jnp.float32)
    total = jnp.where(part['mask'], part['x'], 0).sum()
    mean = total / jnp.maximum(count, 1)
    return {
      'mean': Weighted({'of_masked': mean}, count),
      'nothing': Weighted(mean, 0 * count),
      'plain': part['x'].mean(),
    }

  found = mean_of_parts(function, batch, jax.random.key(0), parts)
  np.testing.assert_allclose(found['mean']['of_masked'], 1.0, rtol=1e-6)
  np.testing.assert_allclose(found['plain'], 3.5, rtol=1e-6)
  assert np.isfinite(found['nothing'])
