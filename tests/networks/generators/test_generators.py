"""Parity of the generators with the official implementations."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.networks.generators.google_maskgit import (
  GoogleMaskGitTransformer,
)
from softdimo_jax.networks.generators.maskbit import (
  MaskBitTableTransformer,
  MaskBitTransformer,
)
from softdimo_jax.networks.generators.maskgit import MaskGitTransformer
from tests.golden import parity


@pytest.mark.parametrize(
  'name', ['maskgit_transformer', 'maskbit_generator', 'google_transformer']
)
def test_parity(name):
  parity.check(name)


TINY = {'num_classes': 5, 'length': 9, 'width': 16, 'depth': 2, 'num_heads': 2}
TINY_MASKGIT = MaskGitTransformer(vocab_size=8, mlp_width=32, **TINY)
TINY_MASKBIT = MaskBitTransformer(num_bits=6, mlp_width=32, **TINY)
TINY_TABLE = MaskBitTableTransformer(num_bits=6, mlp_width=32, **TINY)
TINY_GOOGLE = GoogleMaskGitTransformer(vocab_size=8, mlp_width=32, **TINY)


@pytest.mark.parametrize(
  'module',
  [TINY_MASKGIT, TINY_MASKBIT, TINY_TABLE, TINY_GOOGLE],
  ids=['maskgit', 'maskbit', 'maskbit_table', 'google'],
)
def test_shapes_and_dtypes_in_bfloat16(module):
  module = module.clone(dtype=jnp.bfloat16)
  groups, codes = module.num_groups, module.vocab_size
  tokens = jnp.zeros((3, 9, groups), jnp.int32)
  output, variables = jax.eval_shape(
    module.init_with_output, jax.random.key(0), tokens, tokens[:, 0, 0]
  )
  has_mask_logit = isinstance(module, MaskGitTransformer)
  assert output.logits.shape == (3, 9, groups, codes + has_mask_logit)
  assert output.hidden.shape == (2, 3, 9, 16)
  assert output.logits.dtype == jnp.float32
  assert output.hidden.dtype == jnp.bfloat16
  for leaf in jax.tree.leaves(variables):
    assert leaf.dtype == jnp.float32
  table = jax.eval_shape(lambda v: module.apply(v, method='table'), variables)
  assert table.shape == (groups, codes + 1, 16)


def block_dropout(module):
  """Input shapes of the active dropouts of a block, in order."""
  shapes = {}  # by path: a scan traces its body more than once

  def record(call, args, kwargs, context):
    if isinstance(context.module, nn.Dropout):
      assert not kwargs['deterministic']
      shapes[context.module.path] = args[0].shape
    return call(*args, **kwargs)

  tokens = jnp.zeros((2, 9, module.num_groups), jnp.int32)
  init = lambda key: module.init(
    {'params': key, 'dropout': key},
    tokens,
    tokens[:, 0, 0],
    deterministic=False,
  )
  with nn.intercept_methods(record):
    jax.eval_shape(init, jax.random.key(0))
  return [shape for path, shape in shapes.items() if path[0] == 'layers']


def test_dropout_is_where_the_originals_have_it():
  weights, hidden, output = (2, 2, 10, 10), (2, 10, 32), (2, 10, 16)
  assert block_dropout(TINY_MASKGIT) == [weights, hidden, output]
  # After attention and after the MLP, nothing inside it.
  assert block_dropout(TINY_MASKBIT) == [weights, output, output]
  assert block_dropout(TINY_GOOGLE) == [weights, output, output]


def test_googles_mask_is_the_last_row_and_stands_for_the_null_class():
  tokens = jnp.full((1, 9, 1), TINY_GOOGLE.vocab_size)
  shapes = jax.eval_shape(
    TINY_GOOGLE.init, jax.random.key(0), tokens, tokens[:, 0, 0]
  )
  draw = np.random.default_rng(0).standard_normal
  variables = jax.tree.map(lambda leaf: draw(leaf.shape, np.float32), shapes)
  bound = TINY_GOOGLE.bind(variables)
  mask = variables['params']['word_emb'][-1]
  assert (bound.embed(tokens) == mask).all()
  sequence = lambda label: bound.sequence(
    bound.embed(tokens), jnp.array([label])
  )
  pos_emb = variables['params']['pos_emb']
  null = bound.first_norm((mask + pos_emb)[None])
  np.testing.assert_allclose(
    sequence(TINY_GOOGLE.num_classes), null, rtol=1e-5, atol=1e-6
  )
  assert (sequence(0)[:, 0] != null[:, 0]).any()
