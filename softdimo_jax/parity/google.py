"""Fixtures of Google's MaskGIT transformer and its parallel decoding."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softdimo_jax.convert.google_maskgit import convert_google_maskgit
from softdimo_jax.method import sampling
from softdimo_jax.method.soft_embedding import soft_embedding
from softdimo_jax.networks.call import call
from softdimo_jax.networks.generators.google_maskgit import (
  GoogleMaskGitTransformer,
)
from softdimo_jax.parity import official_generators, record
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.generators import cross_entropy
from softdimo_jax.parity.record import Array, Arrays
from softdimo_jax.types import Params

_MASK = -1


def google_transformer(fixture: Fixture) -> Arrays:
  """Google's `Transformer`, its loss and its parallel decoding."""
  config = fixture.config
  # The mask is the last row of the table; all other rows after the codes count
  # as classes.
  others = config['model']['vocab_size'] - config['codebook_size']
  module = official_generators.google_transformer(
    config['model'], num_classes=others - 1
  )
  run = record.compiled(functools.partial(_forward, module, fixture.arrays))
  params, _ = convert_google_maskgit(fixture.state_dict(), module)
  scaled, _ = convert_google_maskgit(fixture.state_dict(scaled=True), module)
  ours = run(params) | {'eps_logits': run(scaled)['logits']}
  for tag, part in fixture.tagged(config.get('decodes', {})):
    run = functools.partial(
      _decode,
      module,
      config['decodes'][tag],
      fixture.arrays['dec_inputs'],
      part.arrays,
    )
    results = record.compiled(run)(params)
    ours |= {f'{tag}_{name}': value for name, value in results.items()}
  return ours


def _split(module: GoogleMaskGitTransformer, ids: Array) -> tuple[Array, Array]:
  """Official ids [B, 1 + L] -> our tokens [B, L, 1] and labels [B]."""
  tokens = np.where(ids[:, 1:] == _MASK, module.vocab_size, ids[:, 1:])
  return tokens[..., None], ids[:, 0] - module.vocab_size


def _forward(
  module: GoogleMaskGitTransformer, arrays: Arrays, params: Params
) -> dict[str, jax.Array]:
  bound = module.bind({'params': params})
  tokens, labels = _split(module, arrays['ids'])
  _, output_of = record.apply(
    module, params, bound.embed(tokens), labels, method='backbone'
  )
  _, blocks = output_of('layers')
  attention = output_of('layers/attention_norm')
  layers = {}
  for index in range(module.depth):
    layers[f'layer{index}_attn'] = attention[index]
    layers[f'layer{index}'] = blocks[index]
  logits = bound.word_logits(blocks[-1], len(params['word_emb']))
  # The official loss is a mean over each sample's tokens, then over samples.
  losses = jax.vmap(cross_entropy)(
    logits, arrays['targets'], arrays['weights'] == 1
  )
  return {
    **layers,
    'embed': output_of('first_norm'),
    'logits': logits,
    'loss': losses.mean(),
    'soft_emb': soft_embedding(
      jax.nn.softmax(arrays['soft_z'][:, :, None]), bound.table()[:, :-1]
    ),
  }


def _decode(
  module: GoogleMaskGitTransformer,
  options: Mapping[str, Any],
  ids: Array,
  noise: Arrays,
  params: Params,
) -> dict[str, jax.Array]:
  """Predictions and re-masked sequences of all iterations, [B, S, 1 + L]."""
  start, labels = _split(module, ids)
  first_step = options.get('start_iter', 0)
  plan = sampling.google_plan(
    options['num_iter'],
    (start == module.vocab_size).sum((1, 2)),
    schedule=options['mask_scheduling_method'],
    choice_temperature=options['choice_temperature'],
    first_step=first_step,
  )
  # Only the last iterations run. The first position is the class token's.
  token_noise, choice_noise = (
    jnp.asarray(noise[name][-plan.steps :, :, 1:])
    for name in ('gumbel_token', 'gumbel_conf')
  )
  steps = sampling.decode(
    lambda tokens, *_: call(module, params, tokens, labels).logits,
    plan,
    jnp.asarray(start),
    lambda step: (
      token_noise[step][:, :, None],
      choice_noise[step][:, :, None],
    ),
    num_codes=module.vocab_size,
    mask_id=module.vocab_size,
  ).steps
  masked = jnp.where(steps.masked, _MASK, steps.predicted)
  # Skipped iterations return the input.
  idle = jnp.broadcast_to(ids, (first_step, *ids.shape))
  return {
    'final_seqs': jnp.concatenate(
      [idle, _whole(ids, steps.predicted)]
    ).swapaxes(0, 1),
    'masked_seqs': _whole(ids, masked).swapaxes(0, 1),
  }


def _whole(ids: Array, tokens: jax.Array) -> jax.Array:
  """Prepends the class tokens: [S, B, L, 1] -> [S, B, 1 + L]."""
  first = jnp.broadcast_to(ids[:, 0, None], (len(tokens), len(ids), 1))
  return jnp.concatenate([first, tokens[..., 0]], axis=-1)
