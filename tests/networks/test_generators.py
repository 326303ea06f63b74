"""Parity of the generators with the official implementations."""

import functools
import pathlib
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softdimo_jax.convert.maskbit import convert_maskbit
from softdimo_jax.convert.maskgit import convert_maskgit
from softdimo_jax.method import divergence, masking, quantization
from softdimo_jax.method.soft_embedding import hard_embedding, soft_embedding
from softdimo_jax.networks import layers
from softdimo_jax.networks.generators.maskbit import (
  MaskBitTableTransformer,
  MaskBitTransformer,
)
from softdimo_jax.networks.generators.maskgit import MaskGitTransformer
from tests.golden import parity
from tests.golden.weights import load

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'

# Compiling takes longer than running: spare it LLVM's costly passes.
quick_jit = functools.partial(
  jax.jit, compiler_options={'xla_backend_optimization_level': 0}
)

SIZES = {'num_classes': 5, 'width': 32, 'mlp_width': 64, 'num_heads': 4}
MASKGIT = MaskGitTransformer(vocab_size=24, length=16, depth=2, **SIZES)
MASKBIT = {
  'b10s2': MaskBitTransformer(num_bits=10, length=16, depth=2, **SIZES),
  'b14s2pre': MaskBitTransformer(
    num_bits=14, length=9, depth=2, pre_norm=True, **SIZES
  ),
  'b6s1': MaskBitTransformer(
    num_bits=6, num_groups=1, length=9, depth=1, **SIZES | {'num_heads': 2}
  ),
  'embed12s2': MaskBitTableTransformer(num_bits=12, length=9, depth=1, **SIZES),
}


def apply_recorded(module, params, *inputs, method=None):
  """Output, and first input and output of the submodules outside the scan."""
  seen = {}

  def record(call, args, kwargs, context):
    result = call(*args, **kwargs)
    path = '/'.join(context.module.path)
    if context.method_name == '__call__' and not path.startswith('layers'):
      seen[path] = args[0], result
    return result

  with nn.intercept_methods(record):
    return module.apply({'params': params}, *inputs, method=method), seen


def run(module, params, embeddings, labels, drop_label):
  """Logits as asked for, conditional and unconditional, in one batch.

  Args:
    embeddings: three of [B, L, D], in this order.
    labels: [B].
    drop_label: [B], 1 drops the condition of the first.

  Returns:
    The three logits, and the records of the first.
  """
  null = np.full_like(labels, module.num_classes)
  first = np.where(drop_label == 1, null, labels)
  output, seen = apply_recorded(
    module,
    params,
    jnp.concatenate(embeddings),
    np.concatenate([first, labels, null]),
    method='backbone',
  )
  seen = jax.tree.map(lambda leaf: leaf[: len(labels)], seen)
  return jnp.split(output.logits, 3), seen


def run_blocks(block, params, x):
  """The scanned blocks one by one: [(output, records)] of each."""
  results = []
  for index in range(len(params['mlp_in']['bias'])):
    own = jax.tree.map(lambda leaf, index=index: leaf[index], params)
    (x, _), seen = apply_recorded(block, own, x, None)
    results.append((x, seen))
  return results


def soft_path(module, params, logits, labels, cotangent):
  """(soft embeddings, their logits, gradient on `logits` [B, L, G, C])."""
  bound = module.bind({'params': params})
  table = bound.table()[:, : logits.shape[-1]]

  def forward(logits):
    embeddings = soft_embedding(jax.nn.softmax(logits), table)
    return bound.backbone(embeddings, labels).logits, embeddings

  soft_logits, pullback, embeddings = jax.vjp(forward, logits, has_aux=True)
  return embeddings, soft_logits, pullback(cotangent)[0]


def mean_attention(seen, num_heads):
  """Attention weights [B, L, L] of a block, averaged over heads."""
  query, key = (
    seen[f'attention/{name}'][1].reshape(*seen[''][0].shape[:2], num_heads, -1)
    for name in ('query', 'key')
  )
  scores = jnp.einsum('blhd,bmhd->bhlm', query, key) * query.shape[-1] ** -0.5
  return jax.nn.softmax(scores).mean(1)


def maskgit_arrays(params, arrays, config):
  """All arrays but `eps_logits`, in the official layout."""
  guide = divergence.guide
  bound = MASKGIT.bind({'params': params})
  labels = arrays['labels']
  embeddings = bound.embed(arrays['tokens'].reshape(3, 16, 1))
  (logits, conditional, unconditional), seen = run(
    MASKGIT, params, 3 * [embeddings], labels, arrays['drop_label']
  )
  with mock.patch('jax.random.normal', lambda *_: arrays['emb_noise']):
    noised = masking.perturb(None, embeddings, config['perturb'])
  soft_embeddings, soft_logits, soft_gradient = soft_path(
    MASKGIT,
    params,
    arrays['soft_z'][:, :, None],
    labels,
    arrays['soft_cot'][:, :, None],
  )
  per_sample = arrays['cfg_per_sample'][:, None, None, None]
  grouped = {
    'logits': logits,
    'logits_no_drop': conditional,
    'logits_all_drop': unconditional,
    'logits_perturbed': bound.backbone(noised, labels).logits,
    'cfg_logits': guide(conditional, unconditional, config['cfg']),
    'cfg_logits_per_sample': guide(conditional, unconditional, per_sample),
    'cfg_logits_vit': guide(conditional, unconditional, 1 + config['w_vit']),
    'soft_logits': soft_logits,
    'soft_grad_z': soft_gradient,
  }
  loss = lambda mask: divergence.masked_cross_entropy(
    logits,
    arrays['target_codes'].reshape(3, 16, 1),
    mask.reshape(3, 16, 1) == 1,
    label_smoothing=0.1,
  )
  return {
    **{name: value[:, :, 0] for name, value in grouped.items()},
    'embed': seen['first_norm_0'][0],
    'first_layer': seen['first_dense_1'][1],
    **maskgit_hidden(params, seen['first_dense_1'][1]),
    'transformer': seen['last_norm_0'][0],
    'last_layer': seen['last_norm_1'][1],
    'loss_all': loss(np.ones((3, 16))),
    'loss_masked': loss(arrays['loss_mask']),
    'soft_emb': soft_embeddings,
  }


def maskgit_hidden(params, x):
  """Outputs of the official sub-layers, before they are added."""
  block = layers.Block(MASKGIT.num_heads, MASKGIT.mlp_width, epsilon=1e-5)
  blocks = [seen for _, seen in run_blocks(block, params['layers'], x)]
  arrays = {'attn0_mean': mean_attention(blocks[0], MASKGIT.num_heads)}
  for index, seen in enumerate(blocks):
    arrays[f'layer{index}_attn'] = seen['attention'][1]
    arrays[f'layer{index}_ff'] = seen['mlp_out'][1]
  return arrays


def maskbit_arrays(module, params, arrays, guidance):
  """The same for one of the MaskBit models."""
  tokens, labels = arrays['tokens'], arrays['labels']
  embeddings = module.apply({'params': params}, tokens, method='embed')
  (logits, conditional, unconditional), seen = run(
    module, params, 3 * [embeddings], labels, arrays['drop_label']
  )
  soft_embeddings, soft_logits, soft_gradient = soft_path(
    module, params, arrays['soft_z'], labels, arrays['soft_cot']
  )
  return {
    'embed': seen['first_norm'][0],
    'first_layer': seen['first_norm'][1],
    **maskbit_hidden(module, params, seen['first_norm'][1]),
    'last_layer': seen['last_norm'][1],
    'logits': logits,
    'logits_cond': conditional,
    'logits_uncond': unconditional,
    # The official form is c + s (c - u).
    'logits_cfg': divergence.guide(conditional, unconditional, 1 + guidance),
    **maskbit_losses(module, logits, tokens, arrays['targets']),
    **maskbit_bits(module, tokens, jax.nn.softmax(arrays['soft_z'])),
    'soft_emb': soft_embeddings,
    'soft_logits': soft_logits,
    'soft_grad_z': soft_gradient,
  }


def maskbit_hidden(module, params, x):
  """Outputs of the official sub-layers, residual and norm included."""
  block = layers.Block(
    module.num_heads,
    module.mlp_width,
    pre_norm=module.pre_norm,
    epsilon=1e-12,
  )
  after_attention = 'mlp_norm' if module.pre_norm else 'mlp_in'
  blocks = run_blocks(block, params['layers'], x)
  arrays = {}
  for index, (output, seen) in enumerate(blocks):
    arrays[f'layer{index}_attn'] = seen[after_attention][0]
    arrays[f'layer{index}_ff'] = output
  return arrays


def maskbit_losses(module, logits, tokens, targets):
  masked = tokens == module.vocab_size
  right = logits.argmax(-1) == targets
  loss = lambda mask: divergence.masked_cross_entropy(
    logits, targets, mask, label_smoothing=0.1
  )
  return {
    'loss': loss(np.ones_like(masked)),
    'masked_loss': loss(masked),
    'correct': right.mean() ** module.num_groups,
    'masked_correct': right.mean(where=masked) ** module.num_groups,
  }


def maskbit_bits(module, tokens, probabilities):
  if isinstance(module, MaskBitTableTransformer):
    return {}
  bits = quantization.lookup_free_table(module.num_bits, module.num_groups)
  with_mask = jnp.pad(bits, ((0, 0), (0, 1), (0, 0)))
  return {
    'bits': hard_embedding(tokens, with_mask),
    'soft_bits': soft_embedding(probabilities, bits),
  }


def with_scaled(compute, convert, state, module, factors):
  """Our arrays: `compute` of the parameters, and logits of the scaled ones."""
  params, report = convert(state, module)
  assert len(report.used) == len(state)
  scaled_params, _ = convert(parity.scaled(state, factors), module)
  with jax.default_matmul_precision('highest'):
    compute = quick_jit(compute)
    return compute(params) | {'eps_logits': compute(scaled_params)['logits']}


def test_maskgit_parity():
  meta, state, arrays = load(GOLDEN, 'maskgit_transformer')
  config = meta['config']
  ours = with_scaled(
    lambda params: maskgit_arrays(params, arrays, config),
    convert_maskgit,
    state,
    MASKGIT,
    config['eps_scale'],
  )
  parity.check(ours, {name: arrays[name] for name in meta['output_arrays']})


@pytest.mark.parametrize('tag', MASKBIT)
def test_maskbit_parity(tag):
  meta, states, all_arrays = load(GOLDEN, 'maskbit_generator')
  config, module, prefix = meta['config'], MASKBIT[tag], f'{tag}_'
  own = lambda names: [n for n in names if n.startswith(prefix)]
  arrays = {n.removeprefix(prefix): all_arrays[n] for n in own(all_arrays)}
  ours = with_scaled(
    lambda params: maskbit_arrays(module, params, arrays, config['guidance']),
    convert_maskbit,
    states[tag],
    module,
    config['eps_scale'],
  )
  names = [n.removeprefix(prefix) for n in own(meta['output_arrays'])]
  expected = {name: arrays[name] for name in names}
  # Our class position stops before the head.
  expected['last_layer'] = expected['last_layer'][:, : module.length]
  parity.check(ours, expected)


TINY = {'num_classes': 5, 'length': 9, 'width': 16, 'depth': 2, 'num_heads': 2}
TINY_MASKGIT = MaskGitTransformer(vocab_size=8, mlp_width=32, **TINY)
TINY_MASKBIT = MaskBitTransformer(num_bits=6, mlp_width=32, **TINY)
TINY_TABLE = MaskBitTableTransformer(num_bits=6, mlp_width=32, **TINY)


@pytest.mark.parametrize(
  'module',
  [TINY_MASKGIT, TINY_MASKBIT, TINY_TABLE],
  ids=['maskgit', 'maskbit', 'maskbit_table'],
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
  """Shapes that the active dropouts of a block act on, in order."""
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


def test_dropout_acts_where_the_originals_have_it():
  weights, hidden, output = (2, 2, 10, 10), (2, 10, 32), (2, 10, 16)
  assert block_dropout(TINY_MASKGIT) == [weights, hidden, output]
  # After attention and after the MLP, nothing inside it.
  assert block_dropout(TINY_MASKBIT) == [weights, output, output]
