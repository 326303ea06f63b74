"""Meissonic's tokenizer: parity, and grids that are not square."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.method.soft_embedding import soft_embedding
from softdimo_jax.networks.tokenizers.diffusers_vq import DiffusersVQ
from tests.golden import parity
from tests.networks.checks import draw

TINY = DiffusersVQ(
  in_channels=1, level_channels=(8, 12), num_res_blocks=1, latent_channels=4,
  codebook_size=6, embedding_dim=5, num_norm_groups=4, grid=(2, 3),
)  # fmt: skip


IMAGES = np.abs(draw(1, 2, 4, 6, 1))


@pytest.fixture(scope='module')
def variables():
  shapes = jax.eval_shape(TINY.init, jax.random.key(0), IMAGES)
  return jax.tree.map(lambda leaf: 0.3 * draw(3, *leaf.shape), shapes)


def test_parity():
  parity.check('meissonic_vq')


def test_a_grid_need_not_be_square(variables):
  output = jax.jit(TINY.apply)(variables, IMAGES)
  assert TINY.factor == 2
  assert output.images.shape == IMAGES.shape
  assert output.tokens.shape == (2, 6, 1)
  square = TINY.clone(grid=None)
  with pytest.raises(ValueError, match='not square'):
    square.apply(variables, IMAGES, method='encode')
  with pytest.raises(ValueError, match='square grid'):
    square.apply(variables, jnp.zeros((1, 6, 5)), method='decode_embeddings')


def test_other_shapes_are_refused(variables):
  with pytest.raises(ValueError, match=r'images have shape \(4, 4, 1\)'):
    TINY.apply(variables, IMAGES[:, :, :4], method='encode')
  with pytest.raises(ValueError, match=r'a grid of \(2, 3\)'):
    TINY.apply(variables, jnp.zeros((1, 4, 5)), method='decode_embeddings')


def test_one_hot_probabilities_match_tokens(variables):
  bound = TINY.bind(variables)
  tokens = jnp.array([[0, 5, 3, 3, 1, 2]])[..., None]
  soft = soft_embedding(jax.nn.one_hot(tokens, 6), bound.table())
  np.testing.assert_allclose(soft, bound.embed(tokens), rtol=1e-6)
  np.testing.assert_allclose(
    bound.decode_embeddings(soft), bound.decode(tokens), rtol=1e-5, atol=1e-6
  )


def test_rematerialisation_changes_memory_only(variables):
  codes = jnp.asarray(draw(4, 1, 6, 5))

  def gradient(module):
    loss = lambda codes: (
      module.apply(variables, codes, method='decode_embeddings') ** 2
    ).sum()
    return jax.jit(jax.grad(loss))(codes)

  plain, again = gradient(TINY), gradient(TINY.clone(remat='full'))
  scale = np.abs(plain).max()
  np.testing.assert_allclose(again, plain, rtol=0, atol=1e-5 * scale)
  again = jax.make_jaxpr(lambda: gradient(TINY.clone(remat='full')))()
  assert 'remat' in str(again)
