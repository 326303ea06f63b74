import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from softdimo_jax import families

BATCH, LENGTH, CODES = 2, 4, 8
SIZES = {
  'num_classes': 3,
  'length': LENGTH,
  'width': 8,
  'depth': 1,
  'num_heads': 2,
  'mlp_width': 16,
}
GENERATORS = {
  'maskgit': {'vocab_size': CODES},
  'maskbit': {'num_bits': 6, 'num_groups': 2},
  'maskbit_table': {'num_bits': 6, 'num_groups': 2},
  'google_maskgit': {'vocab_size': CODES},
}
NAMES = pytest.mark.parametrize('name', GENERATORS)

# Compiling takes longer than running: spare it LLVM's costly passes.
quick_jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)


def configuration(name):
  if name == 'maskgit':
    tokenizer = {'name': 'taming_vqgan', 'codebook_size': CODES}
  elif name == 'google_maskgit':
    tokenizer = {'name': 'maskbit', 'codebook_size': CODES}
  else:
    tokenizer = {'name': 'maskbit', 'embedding_dim': 6, 'num_groups': 2}
  return ml_collections.ConfigDict({
    'generator': {'name': name, **SIZES, **GENERATORS[name]},
    'tokenizer': tokenizer,
  })  # fmt: skip


@functools.cache
def build(name):
  """Family and random parameters of its generator."""
  family = families.build(configuration(name))
  tokens = jnp.zeros((1, *family.token_shape), jnp.int32)
  shapes = jax.eval_shape(
    family.generator.init, jax.random.key(0), tokens, tokens[:, 0, 0]
  )
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda leaf: jnp.array(0.3 * rng.normal(size=leaf.shape), leaf.dtype),
    shapes['params'],
  )
  return family, params


@NAMES
def test_vocabulary(name):
  family, params = build(name)
  groups = GENERATORS[name].get('num_groups', 1)
  assert family.name == name
  assert family.vocab_size == family.mask_id == CODES
  assert family.token_shape == (LENGTH, groups)
  assert family.null_label == 3
  assert family.table(params).shape == (groups, CODES + 1, 8)


@NAMES
def test_frozen_and_trained_parameters_make_the_whole(name):
  family, params = build(name)
  trained, frozen = family.split(params)
  assert set(frozen) == set(family.frozen)
  assert trained.keys() | frozen.keys() == params.keys()
  assert not trained.keys() & frozen.keys()
  other = jax.tree.map(lambda leaf: leaf + 1, params)
  merged = family.merge(trained, other)
  assert merged.keys() == params.keys()
  for key in params:
    source = other if key in frozen else params
    jax.tree.map(np.testing.assert_array_equal, merged[key], source[key])


@NAMES
def test_frozen_parameters_fix_the_embedding(name):
  """What the step embeds with the teacher is what the student would see."""
  family, params = build(name)
  trained, _ = family.split(params)
  moved = jax.tree.map(lambda leaf: leaf + 1, trained)
  np.testing.assert_array_equal(
    family.table(family.merge(moved, params)), family.table(params)
  )


@NAMES
def test_guidance_extrapolates_from_the_null_label(name):
  family, params = build(name)
  shape = (BATCH, *family.token_shape)
  tokens = np.random.default_rng(1).integers(0, CODES + 1, shape)

  @quick_jit
  def run(scale, labels):
    return family.guided_logits(params, tokens, labels, scale)

  labels = jnp.array([0, 2])
  null = jnp.full(BATCH, family.null_label)
  conditional, unconditional = run(1.0, labels), run(1.0, null)
  assert np.abs(conditional - unconditional).max() > 0.001
  np.testing.assert_allclose(
    run(2.5, labels),
    unconditional + 2.5 * (conditional - unconditional),
    rtol=1e-4,
    atol=1e-4,
  )
  # The Python number 1 takes the road of a single branch.
  np.testing.assert_allclose(
    quick_jit(lambda: family.guided_logits(params, tokens, labels, 1))(),
    conditional,
    rtol=1e-4,
    atol=1e-5,
  )


def test_initial_embeddings_are_those_of_masked_random_tokens():
  family, params = build('maskgit')
  draw = lambda **init: family.initial_embeddings(
    params, jax.random.key(0), 64, ml_collections.ConfigDict(init)
  )
  clean = draw(mask_ratio=0.5, noise_scale=0.0)
  table = family.table(params)[0]
  distance = jnp.abs(clean[:, :, None] - table).sum(-1)
  tokens = distance.argmin(-1)
  np.testing.assert_array_equal(distance.min(-1), 0)
  np.testing.assert_array_equal((tokens == CODES).sum(1), LENGTH // 2)
  assert len(np.unique(tokens)) == CODES + 1
  noisy = draw(mask_ratio=0.5, noise_scale=0.3)
  residual = noisy - 0.91**0.5 * clean
  assert abs(residual.std() - 0.3) < 0.02


@pytest.mark.parametrize('role', ['generator', 'tokenizer'])
def test_unknown_names_are_refused(role):
  config = configuration('maskgit')
  config[role].name = 'dall_e'
  with pytest.raises(ValueError, match=f"{role} 'dall_e' is unknown"):
    families.build(config)


def test_a_tokenizer_of_another_vocabulary_is_refused():
  config = configuration('maskgit')
  config.tokenizer.codebook_size = 16
  with pytest.raises(ValueError, match=r'1 groups of 8 codes.* 1 of 16'):
    families.build(config)
  config = configuration('maskbit')
  config.tokenizer.num_groups = 1
  with pytest.raises(ValueError, match=r'2 groups of 8 codes.* 1 of 64'):
    families.build(config)
