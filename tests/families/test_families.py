import dataclasses
import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from softdimo_jax import families
from softdimo_jax.families.start import Start

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

# Compiling takes longer than running, so LLVM's expensive passes are off.
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
def test_split_and_merge_are_inverse(name):
  family, params = build(name)
  trained, frozen = family.split(params)
  assert set(frozen) == set(family.generator.frozen)
  assert trained.keys() | frozen.keys() == params.keys()
  assert not trained.keys() & frozen.keys()
  other = jax.tree.map(lambda leaf: leaf + 1, params)
  merged = family.merge(trained, other)
  assert merged.keys() == params.keys()
  for key in params:
    source = other if key in frozen else params
    jax.tree.map(np.testing.assert_array_equal, merged[key], source[key])


@NAMES
def test_kernels_in_the_dtype_of_products_change_nothing(name):
  family, params = build(name)
  half = dataclasses.replace(
    family, generator=family.generator.clone(dtype=jnp.bfloat16)
  )
  assert_stored_is_exact(half, params, jnp.array([0, 2]))
  unchanged = jax.tree.map(lambda a, b: a is b, family.stored(params), params)
  assert all(jax.tree.leaves(unchanged))


def assert_stored_is_exact(family, params, condition):
  stored = family.stored(params)
  dtypes = {leaf.dtype.name for leaf in jax.tree.leaves(stored)}
  assert dtypes == {'float32', 'bfloat16'}
  tokens = jnp.arange(2 * np.prod(family.token_shape)) % CODES
  tokens = tokens.reshape(2, *family.token_shape)
  logits = quick_jit(lambda p: family.forward(p, tokens, condition).logits)
  np.testing.assert_array_equal(logits(stored), logits(params))


@NAMES
def test_frozen_parameters_fix_the_embedding(name):
  """A step embeds with the teacher's table, which equals the student's."""
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
  # The Python number 1 runs a single branch.
  np.testing.assert_allclose(
    quick_jit(lambda: family.guided_logits(params, tokens, labels, 1))(),
    conditional,
    rtol=1e-4,
    atol=1e-5,
  )


@NAMES
def test_logits_of_some_positions_are_those_of_all(name):
  family, params = build(name)
  tokens = np.zeros((BATCH, *family.token_shape), int)
  labels = jnp.array([0, 2])
  output = quick_jit(family.forward)(params, tokens, labels)
  some = jnp.array([1, 3])
  np.testing.assert_allclose(
    family.logits(params, output.pre_logits[:, some], some),
    output.logits[:, some],
    rtol=1e-5,
    atol=1e-6,
  )


def test_initial_embeddings_are_those_of_masked_random_tokens():
  family, params = build('maskgit')
  draw = lambda scale, unit: family.initial_embeddings(
    params,
    jax.random.key(0),
    64,
    Start(0.5, scale, unit),
  )
  clean = draw(0.0, 'absolute')
  table = family.table(params)[0]
  distance = jnp.abs(clean[:, :, None] - table).sum(-1)
  tokens = distance.argmin(-1)
  np.testing.assert_array_equal(distance.min(-1), 0)
  np.testing.assert_array_equal((tokens == CODES).sum(1), LENGTH // 2)
  assert len(np.unique(tokens)) == CODES + 1
  rms = float(jnp.sqrt(jnp.square(table[:CODES]).mean()))
  for unit, size in (('absolute', 1.0), ('table', rms)):
    residual = draw(0.3, unit) - 0.91**0.5 * clean
    assert abs(residual.std() / size - 0.3) < 0.02


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


TEXT = {
  'maskgen': {'num_classes': 0, 'length': LENGTH, 'depth': 2, 'micro_width': 4},
  'meissonic': {
    'grid': (2, 2), 'downsample': False, 'joint_depth': 1, 'single_depth': 1,
    'rope_axes': (0, 2, 2), 'spare_rows': 0,
  },
}  # fmt: skip
MICRO = {'maskgen': (6.5,), 'meissonic': (8.0, 8.0, 0.0, 0.0, 6.0)}


def text_configuration(name):
  return ml_collections.ConfigDict({
    'generator': {
      'name': name, 'vocab_size': CODES, 'width': 8, 'num_heads': 2,
      'mlp_width': 16, 'text_width': 8, **TEXT[name],
    },
    'micro': MICRO[name],
    'tokenizer': {
      'name': 'patch_vq', 'patch': 4, 'hidden': 8, 'codebook_size': CODES,
    },
    'text': {
      'vocab_size': 9, 'length': 5, 'width': 8, 'depth': 2, 'num_heads': 2,
      'mlp_width': 8, 'projection_width': 8,
    },
  })  # fmt: skip


@functools.cache
def build_text(name):
  """Family, random parameters, condition of two prompts, null condition."""
  family = families.build(text_configuration(name))
  rng = np.random.default_rng(0)
  draw = lambda init: jax.tree.map(
    lambda leaf: jnp.array(0.3 * rng.normal(size=leaf.shape), leaf.dtype),
    jax.eval_shape(init, jax.random.key(0)),
  )
  ids = jnp.array([[7, 1, 2, 8, 0], [7, 3, 8, 0, 0], [7, 8, 0, 0, 0]])
  tower = draw(lambda key: family.text.init(key, ids)['params'])
  text = jax.jit(family.encode_text)(tower, ids)
  take = lambda rows: jax.tree.map(lambda array: array[rows], text)
  return family, draw(family.init), take(slice(2)), take(slice(2, 3))


@pytest.mark.parametrize('name', TEXT)
def test_text_families(name):
  family, params, text, null = build_text(name)
  assert family.reads_text and family.image_shape == (8, 8, 3)
  assert family.token_shape == (LENGTH, 1)
  np.testing.assert_array_equal(text.micro, [MICRO[name]] * 2)
  assert set(family.split(params)[1]) == set(family.generator.frozen)
  tokens = np.random.default_rng(1).integers(0, CODES + 1, (2, LENGTH, 1))

  @quick_jit
  def guided(scale, text):
    return family.guided_logits(params, tokens, text, scale, null=null)

  nothing = jax.tree.map(lambda a: jnp.repeat(a, 2, axis=0), null)
  conditional, unconditional = guided(1.0, text), guided(1.0, nothing)
  assert np.abs(conditional - unconditional).max() > 1e-3
  np.testing.assert_allclose(
    guided(2.5, text),
    unconditional + 2.5 * (conditional - unconditional),
    rtol=1e-4,
    atol=1e-4,
  )
  with pytest.raises(ValueError, match='no default null condition'):
    family.guided_logits(params, tokens, text, 2.0)


@pytest.mark.parametrize('name', TEXT)
def test_kernels_of_text_families_in_the_dtype_of_products(name):
  family, params, text, _ = build_text(name)
  half = dataclasses.replace(
    family, generator=family.generator.clone(dtype=jnp.bfloat16)
  )
  assert_stored_is_exact(half, params, text)


@pytest.mark.parametrize('name', TEXT)
def test_the_initial_embedding_enters_where_the_noise_belongs(name):
  family, params, text, _ = build_text(name)
  all_masked = Start(1.0, 0.0, 'absolute')
  start = family.initial_embeddings(params, jax.random.key(0), 2, all_masked)
  masked = jnp.full((2, LENGTH, 1), family.mask_id)
  np.testing.assert_allclose(
    quick_jit(family.one_step)(params, start, text, all_masked).logits,
    quick_jit(family.backbone)(
      params, family.embed(params, masked), text
    ).logits,
    rtol=1e-4,
    atol=1e-5,
  )
  table = family.table(params)[0, -1]
  equal = np.allclose(start, jnp.broadcast_to(table, start.shape))
  assert equal == (name != 'meissonic')


def test_text_of_another_width_is_refused():
  config = text_configuration('maskgen')
  config.text.width = 16
  with pytest.raises(ValueError, match='width 8, but the text tower has 16'):
    families.build(config)
  config = text_configuration('meissonic')
  config.micro = (6.5,)
  with pytest.raises(ValueError, match='reads 5 micro-conditions'):
    families.build(config)
