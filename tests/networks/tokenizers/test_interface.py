"""The interface of every image tokenizer, at a tiny size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.networks.tokenizers.diffusers_vq import DiffusersVQ
from softdimo_jax.networks.tokenizers.maskbit import MaskBitTokenizer
from softdimo_jax.networks.tokenizers.taming_vqgan import TamingVQGAN
from softdimo_jax.ops import quantization

# Compiling takes longer than running, so LLVM's expensive passes are off.
quick_jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)

TINY = {
  'in_channels': 1,
  'hidden_channels': 8,
  'channel_multipliers': (1, 2),
  'num_res_blocks': 1,
  'num_norm_groups': 4,
  'embedding_dim': 6,
}
TINY_TAMING = TamingVQGAN(
  resolution=8,
  attention_resolutions=(),
  latent_channels=8,
  codebook_size=16,
  **TINY,
)
TINY_BITS = MaskBitTokenizer(num_groups=2, num_res_blocks_decoder=2, **TINY)
TINY_COSINE = MaskBitTokenizer(codebook_size=16, l2_normalized=True, **TINY)
TINY_DIFFUSERS = DiffusersVQ(
  in_channels=1,
  level_channels=(8, 16),
  num_res_blocks=1,
  middle_attention=True,
  latent_channels=8,
  codebook_size=16,
  embedding_dim=6,
  num_norm_groups=4,
)
TINY_IMAGES = jax.ShapeDtypeStruct((3, 8, 8, 1), jnp.float32)


def random_variables(module):
  """Cheaper than `init`, which compiles a random draw for every shape."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(module.init, jax.random.key(0), TINY_IMAGES)
  return jax.tree.map(
    lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), leaf.dtype),
    shapes,
  )


@pytest.fixture(
  scope='module',
  params=[TINY_TAMING, TINY_BITS, TINY_COSINE, TINY_DIFFUSERS],
  ids=['taming', 'bits', 'cosine', 'diffusers'],
)
def tiny(request):
  """One pass of a small tokenizer, with the gradients of a training loss."""
  module = request.param
  images = jax.random.uniform(jax.random.key(1), TINY_IMAGES.shape)

  def loss(variables):
    bound = module.bind(variables)
    output = bound(images)
    error = jnp.square(output.images - images).mean()
    error += quantization.vq_loss(output.latents, output.quantized)[0]
    return error, {
      'output': output,
      'table': bound.table(),
      'tokens': bound.encode(images),
      'decoded': bound.decode(output.tokens),
    }

  gradient = quick_jit(jax.value_and_grad(loss, has_aux=True))
  (_, results), gradients = gradient(random_variables(module))
  return module, results, gradients


def test_interface(tiny):
  module, results, _ = tiny
  output, table = results['output'], np.asarray(results['table'])
  groups, codes, width = table.shape
  assert width == module.embedding_dim
  assert output.tokens.shape == (3, 16, groups)
  assert output.tokens.dtype == jnp.int32
  assert output.latents.shape == output.quantized.shape == (3, 16, width)
  assert output.images.shape == TINY_IMAGES.shape
  assert output.tokens.min() >= 0
  assert output.tokens.max() < codes
  assert len(np.unique(output.tokens)) > 1
  np.testing.assert_array_equal(output.tokens, results['tokens'])
  np.testing.assert_allclose(
    output.images, results['decoded'], rtol=1e-3, atol=1e-3
  )
  if module is TINY_COSINE:
    for array in (output.latents, output.quantized):
      norms = np.linalg.norm(np.asarray(array), axis=-1)
      np.testing.assert_allclose(norms, 1, rtol=1e-5)
  rows = sum(table[g][np.asarray(output.tokens)[..., g]] for g in range(groups))
  np.testing.assert_allclose(output.quantized, rows, rtol=1e-6)


def test_every_parameter_learns(tiny):
  """Gradients reach the encoder straight through, and the codebook."""
  _, _, gradients = tiny
  for path, leaf in jax.tree.leaves_with_path(gradients):
    name = jax.tree_util.keystr(path)
    assert np.isfinite(leaf).all(), name
    # The softmax over pixels is invariant to a constant added to all keys.
    if not name.endswith("['k']['bias']"):
      assert np.abs(leaf).max() > 0, name


@pytest.mark.parametrize('module', [TINY_TAMING, TINY_BITS, TINY_DIFFUSERS])
def test_bfloat16_computes_with_float32_parameters_and_outputs(module):
  module = module.clone(dtype=jnp.bfloat16)
  key = jax.random.key(0)
  output, variables = jax.eval_shape(module.init_with_output, key, TINY_IMAGES)
  for leaf in jax.tree.leaves((variables, output.replace(tokens=None))):
    assert leaf.dtype == jnp.float32
  hidden = jax.eval_shape(
    lambda v, x: module.apply(
      v, x, capture_intermediates=True, mutable='intermediates'
    )[1],
    variables,
    TINY_IMAGES,
  )['intermediates']
  for coder in ('encoder', 'decoder'):
    assert hidden[coder]['__call__'][0].dtype == jnp.bfloat16


def test_attention_follows_the_configured_resolution_not_the_image():
  module = TINY_TAMING.clone(attention_resolutions=(4,))

  def names(side):
    images = jax.ShapeDtypeStruct((1, side, side, 1), jnp.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)
    return {n for n in shapes['params']['encoder'] if 'attn' in n}

  assert names(8) == names(16) == {'down_1_attn_0', 'mid_attn_1'}


@pytest.mark.parametrize('shape', [(1, 8, 8, 3), (1, 7, 7, 1), (1, 8, 4, 1)])
def test_wrong_images_are_refused(shape):
  with pytest.raises(ValueError, match='not square with 1 channels'):
    jax.eval_shape(TINY_TAMING.init, jax.random.key(0), jnp.zeros(shape))


@pytest.mark.parametrize('module', [TINY_TAMING, TINY_BITS, TINY_DIFFUSERS])
def test_positions_must_form_a_square(module):
  embeddings = jnp.zeros((1, 15, module.embedding_dim))
  with pytest.raises(ValueError, match='15 positions'):
    module.init(jax.random.key(0), embeddings, method='decode_embeddings')


def test_a_codebook_must_have_one_group():
  module = MaskBitTokenizer(codebook_size=16, num_groups=2, **TINY)
  with pytest.raises(ValueError, match='num_groups must be 1'):
    jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
