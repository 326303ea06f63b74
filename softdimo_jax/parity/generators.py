"""Fixtures of the generators MaskGit and MaskBit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from softdimo_jax.convert.maskbit import convert_maskbit
from softdimo_jax.convert.maskgit import convert_maskgit
from softdimo_jax.method import divergence, masking
from softdimo_jax.method.soft_embedding import hard_embedding, soft_embedding
from softdimo_jax.networks.generators.maskbit import (
  MaskBitTableTransformer,
  MaskBitTransformer,
)
from softdimo_jax.networks.generators.maskgit import MaskGitTransformer
from softdimo_jax.ops import quantization
from softdimo_jax.parity import official_generators, record
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.record import Array, Arrays, OutputOf
from softdimo_jax.types import Params

_LABEL_SMOOTHING = 0.1


def maskgit_transformer(fixture: Fixture) -> Arrays:
  """Di[M]O's `MaskTransformer`, its guidance, losses and soft path."""
  module = official_generators.maskgit_transformer(fixture.config['model'])
  run = record.compiled(functools.partial(_maskgit, module, fixture))
  params, _ = convert_maskgit(fixture.state_dict(), module)
  scaled, _ = convert_maskgit(fixture.state_dict(scaled=True), module)
  return run(params) | {'eps_logits': run(scaled)['logits']}


def maskbit_generator(fixture: Fixture) -> Arrays:
  """MaskBit's `LFQBert` and `Bert`, one tag each."""
  ours = {}
  models = fixture.config['models']
  for tag, part in fixture.tagged(models):
    module = official_generators.maskbit_generator(
      models[tag], tables=models[tag]['class'] == 'Bert'
    )
    run = record.compiled(functools.partial(_maskbit, module, part))
    params, _ = convert_maskbit(part.state_dict(tag), module)
    scaled, _ = convert_maskbit(part.state_dict(tag, scaled=True), module)
    results = run(params) | {'eps_logits': run(scaled)['logits']}
    ours |= {f'{tag}_{name}': value for name, value in results.items()}
  return ours


def _branches(
  module: MaskGitTransformer | MaskBitTransformer,
  params: Params,
  tokens: Array,
  arrays: Arrays,
) -> tuple[dict[str, jax.Array], OutputOf]:
  """Logits with conditions dropped by `drop_label`, all kept and all dropped.

  The three branches run as one batch.

  Args:
    module: the generator.
    params: parameters of the generator.
    tokens: int [B, L, G].
    arrays: `labels` and `drop_label`, int [B]; 1 drops the condition.

  Returns:
    The logits `first`, `with` and `without`; and a look-up of submodules'
    outputs in the first branch, see `record.apply`, with `sequence` for the
    input of the first layer.
  """
  labels = arrays['labels']
  null = np.full_like(labels, module.num_classes)
  first = np.where(arrays['drop_label'] == 1, null, labels)
  bound = module.bind({'params': params})
  embeddings = bound.embed(tokens)
  output, output_of = record.apply(
    module,
    params,
    jnp.concatenate(3 * [embeddings]),
    np.concatenate([first, labels, null]),
    method='backbone',
  )
  logits = jnp.split(output.logits, 3)
  batch = len(labels)

  def first_output_of(path: str) -> jax.Array:
    if path == 'sequence':
      return bound.sequence(embeddings, first)
    value = output_of(path)
    if path == 'layers':  # (carry, stacked outputs of the blocks)
      value = value[1]
    in_scan = path.startswith('layers')
    return value[:, :batch] if in_scan else value[:batch]

  names = ('first', 'with', 'without')
  return dict(zip(names, logits, strict=True)), first_output_of


def _maskgit(
  module: MaskGitTransformer, fixture: Fixture, params: Params
) -> dict[str, jax.Array]:
  arrays, config = fixture.arrays, fixture.config
  bound = module.bind({'params': params})
  labels = arrays['labels']
  flat = lambda name: arrays[name].reshape(len(labels), module.length, 1)
  logits, output_of = _branches(module, params, flat('tokens'), arrays)
  noised = masking.mix_noise(
    bound.embed(flat('tokens')), arrays['emb_noise'], config['perturb']
  )
  soft = record.soft_path(
    lambda embeddings: bound.backbone(embeddings, labels).logits,
    bound.table(),
    arrays['soft_z'][:, :, None],
    arrays['soft_cot'][:, :, None],
  )
  guide = lambda scale: divergence.guide(
    logits['with'], logits['without'], scale
  )
  grouped = {
    'logits': logits['first'],
    'logits_no_drop': logits['with'],
    'logits_all_drop': logits['without'],
    'logits_perturbed': bound.backbone(noised, labels).logits,
    'cfg_logits': guide(config['cfg']),
    'cfg_logits_per_sample': guide(
      arrays['cfg_per_sample'][:, None, None, None]
    ),
    'cfg_logits_vit': guide(1 + config['w_vit']),
    'soft_logits': soft[1],
    'soft_grad_z': soft[2],
  }
  loss = lambda mask: cross_entropy(
    logits['first'], flat('target_codes'), mask == 1
  )
  return {
    **{name: value[:, :, 0] for name, value in grouped.items()},
    'embed': output_of('sequence'),
    'first_layer': output_of('first_dense_1'),
    'transformer': output_of('layers')[-1],
    'last_layer': output_of('last_norm_1'),
    **_maskgit_layers(module, output_of),
    'loss_all': loss(np.ones_like(flat('loss_mask'))),
    'loss_masked': loss(flat('loss_mask')),
    'soft_emb': soft[0],
  }


def _maskgit_layers(
  module: MaskGitTransformer, output_of: OutputOf
) -> dict[str, jax.Array]:
  """Outputs of the official sub-layers, before the residual is added."""
  attention, mlp = output_of('layers/attention'), output_of('layers/mlp_out')
  query, key = (
    output_of(f'layers/attention/{name}').reshape(
      *attention.shape[:3], module.num_heads, -1
    )
    for name in ('query', 'key')
  )
  scores = jnp.einsum('nblhd,nbmhd->nbhlm', query, key)
  weights = jax.nn.softmax(scores * query.shape[-1] ** -0.5).mean(2)
  arrays = {}
  for index in range(module.depth):
    arrays[f'layer{index}_attn'] = attention[index]
    arrays[f'layer{index}_ff'] = mlp[index]
    arrays[f'attn{index}_mean'] = weights[index]
  return arrays


def _maskbit(
  module: MaskBitTransformer, part: Fixture, params: Params
) -> dict[str, jax.Array]:
  arrays = part.arrays
  bound = module.bind({'params': params})
  tokens, targets = arrays['tokens'], arrays['targets']
  logits, output_of = _branches(module, params, tokens, arrays)
  soft = record.soft_path(
    lambda embeddings: bound.backbone(embeddings, arrays['labels']).logits,
    bound.table()[:, :-1],
    arrays['soft_z'],
    arrays['soft_cot'],
  )
  return {
    'embed': output_of('sequence'),
    'first_layer': output_of('first_norm'),
    **_maskbit_layers(module, output_of),
    'last_layer': bound.last_layer(output_of('layers')[-1]),
    'logits': logits['first'],
    'logits_cond': logits['with'],
    'logits_uncond': logits['without'],
    # The official form is c + s (c - u).
    'logits_cfg': divergence.guide(
      logits['with'], logits['without'], 1 + part.config['guidance']
    ),
    **_maskbit_losses(module, logits['first'], tokens, targets),
    **_maskbit_bits(module, tokens, jax.nn.softmax(arrays['soft_z'])),
    'soft_emb': soft[0],
    'soft_logits': soft[1],
    'soft_grad_z': soft[2],
  }


def _maskbit_layers(
  module: MaskBitTransformer, output_of: OutputOf
) -> dict[str, jax.Array]:
  """Outputs of the official sub-layers, residual and norm included."""
  blocks = output_of('layers')
  if module.pre_norm:
    before = jnp.concatenate([output_of('first_norm')[None], blocks[:-1]])
    attention = before + output_of('layers/attention')
  else:
    attention = output_of('layers/attention_norm')
  arrays = {}
  for index in range(module.depth):
    arrays[f'layer{index}_attn'] = attention[index]
    arrays[f'layer{index}_ff'] = blocks[index]
  return arrays


def _maskbit_losses(
  module: MaskBitTransformer,
  logits: jax.Array,
  tokens: Array,
  targets: Array,
) -> dict[str, jax.Array]:
  masked = tokens == module.vocab_size
  right = logits.argmax(-1) == targets
  return {
    'loss': cross_entropy(logits, targets, np.ones_like(masked)),
    'masked_loss': cross_entropy(logits, targets, masked),
    'correct': right.mean() ** module.num_groups,
    'masked_correct': right.mean(where=masked) ** module.num_groups,
  }


def _maskbit_bits(
  module: MaskBitTransformer, tokens: Array, probabilities: jax.Array
) -> dict[str, jax.Array]:
  if isinstance(module, MaskBitTableTransformer):
    return {}
  bits = quantization.lookup_free_table(module.num_bits, module.num_groups)
  with_mask = jnp.pad(bits, ((0, 0), (0, 1), (0, 0)))
  return {
    'bits': hard_embedding(tokens, with_mask),
    'soft_bits': soft_embedding(probabilities, bits),
  }


def cross_entropy(logits: jax.Array, targets: Array, mask: Array) -> jax.Array:
  """Cross entropy with the label smoothing of all official losses."""
  return divergence.masked_cross_entropy(
    logits, targets, mask, label_smoothing=_LABEL_SMOOTHING
  )
