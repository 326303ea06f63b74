"""TA-TiTok: parity, and properties that fixtures do not cover."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.method.soft_embedding import soft_embedding
from softdimo_jax.networks.tokenizers.tatitok import TATiTok
from softdimo_jax.ops import quantization
from tests.golden import parity
from tests.networks.checks import draw

TINY = TATiTok(
  resolution=8, encoder_patch=4, decoder_patch=2, length=3, encoder_width=8,
  encoder_depth=2, encoder_heads=2, decoder_width=12, decoder_depth=1,
  decoder_heads=3, codebook_size=6, embedding_dim=5, text_width=7,
  text_length=4,
)  # fmt: skip
COSINE = TINY.clone(l2_normalized=True)


IMAGES, TEXT = np.abs(draw(1, 2, 8, 8, 3)), draw(2, 2, 4, 7)


@pytest.fixture(scope='module')
def variables():
  shapes = jax.eval_shape(TINY.init, jax.random.key(0), IMAGES, TEXT)
  return jax.tree.map(lambda leaf: 0.3 * draw(3, *leaf.shape), shapes)


@pytest.mark.parametrize('name', ['tatitok', 'tatitok_l2'])
def test_parity(name):
  parity.check(name)


@pytest.mark.parametrize('module', [TINY, COSINE], ids=['plain', 'cosine'])
def test_interface_and_gradients(variables, module):
  def loss(variables):
    output = module.apply(variables, IMAGES, TEXT)
    error = jnp.square(output.images - IMAGES).mean()
    return error + quantization.vq_loss(output.latents, output.quantized)[
      0
    ], output

  (_, output), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(
    variables
  )
  assert output.images.shape == IMAGES.shape
  assert output.tokens.shape == (2, 3, 1)
  assert output.tokens.dtype == jnp.int32
  bound = module.bind(variables)
  np.testing.assert_array_equal(bound.encode(IMAGES), output.tokens)
  np.testing.assert_allclose(
    bound.decode(output.tokens, TEXT), output.images, rtol=1e-4, atol=1e-5
  )
  for path, leaf in jax.tree.leaves_with_path(gradients):
    name = jax.tree_util.keystr(path)
    if not name.endswith("['key']['bias']"):  # the softmax is invariant to it
      assert np.abs(leaf).max() > 0, name


def test_expected_codes_are_normed_after_mixing(variables):
  bound = COSINE.bind(variables)
  codebook = variables['params']['codebook']
  np.testing.assert_array_equal(bound.table()[0], codebook)
  mean = soft_embedding(jnp.full((2, 3, 1, 6), 1 / 6), bound.table())
  normed = quantization.l2_normalize(mean)
  np.testing.assert_allclose(
    bound.decode_embeddings(mean, TEXT),
    bound.decode_embeddings(normed, TEXT),
    rtol=1e-4,
    atol=1e-5,
  )
  norms = np.linalg.norm(bound.embed(jnp.arange(6)[None, :, None]), axis=-1)
  np.testing.assert_allclose(norms, 1, rtol=1e-5)


def test_images_depend_on_their_text(variables):
  decode = jax.jit(lambda text: TINY.apply(
    variables, jnp.zeros((2, 3, 1), jnp.int32), text, method='decode'
  ))  # fmt: skip
  changed = np.array(TEXT)
  changed[1] += 1
  difference = np.abs(decode(changed) - decode(TEXT)).max((1, 2, 3))
  assert difference[0] == 0
  assert difference[1] > 1e-3


def test_bfloat16_computes_with_float32_parameters_and_outputs():
  module = TINY.clone(dtype=jnp.bfloat16, remat='full')
  output, variables = jax.eval_shape(
    module.init_with_output, jax.random.key(0), IMAGES, TEXT
  )
  for leaf in jax.tree.leaves((variables, output.replace(tokens=None))):
    assert leaf.dtype == jnp.float32


def test_other_shapes_are_refused(variables):
  with pytest.raises(ValueError, match='images have shape'):
    TINY.apply(variables, IMAGES[:, :4, :4], method='encode')
  codes = jnp.zeros((2, 3, 5))
  for args, name in (
    ((codes[:, :2], TEXT), 'codes'),
    ((codes, TEXT[:, :3]), 'text'),
  ):
    with pytest.raises(ValueError, match=f'{name} must have shape'):
      TINY.apply(variables, *args, method='decode_embeddings')
  with pytest.raises(ValueError, match='by patch 3'):
    TINY.clone(decoder_patch=3).apply(variables, IMAGES, method='encode')
