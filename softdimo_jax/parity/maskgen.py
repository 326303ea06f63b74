"""Fixtures of the generator MaskGen-VQ and its sampler."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from softdimo_jax.convert.maskgen import convert_maskgen
from softdimo_jax.method import divergence, sampling
from softdimo_jax.networks.call import call
from softdimo_jax.networks.generators.condition import (
  TextCondition,
  dropped,
  with_null,
)
from softdimo_jax.networks.generators.maskgen import MaskGenTransformer
from softdimo_jax.networks.joint_block import JointBlock
from softdimo_jax.parity import official_generators, record
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.record import Array, Arrays
from softdimo_jax.types import Params

# Score of `logits_aes`, according to the fixtures' descriptions.
_OTHER_SCORE = 4.0
# Official defaults of the configuration and of the arguments of `generate`.
_SCORE = 6.0
_GUIDANCE = {
  'none': 'constant',
  'linear': 'linear',
  'cosine': 'cosine',
  'flippedcosine': 'flipped_cosine',
}
# Arguments of the arrays `official_*`, besides steps and entries.
_OFFICIAL_RUN = {'guidance_scale': 12.0, 'randomize_temperature': 2.0}


def maskgen_generator(fixture: Fixture) -> Arrays:
  """`MaskGen_VQ` in evaluation mode, with its loss and soft path."""
  module = official_generators.maskgen(fixture.config['model_config'])
  params, _ = convert_maskgen(fixture.state_dict(), module)
  run = functools.partial(_generator, module, fixture)
  return record.compiled(run)(params)


def maskgen_sampler(fixture: Fixture) -> Arrays:
  """`MaskGen_VQ.generate`, and its plans at official sizes."""
  config = fixture.config['model_config']
  module = official_generators.maskgen(config)
  params, _ = convert_maskgen(fixture.state_dict(), module)
  score = config['model']['maskgen'].get('sample_aesthetic_score', _SCORE)
  schedule = config['model']['maskgen'].get('mask_schedule_strategy', 'arccos')
  ours = _official_plans(fixture)
  runs = fixture.config['runs']
  for tag, part in fixture.tagged(runs):
    options = {'mask_schedule_strategy': schedule} | runs[tag]
    run = functools.partial(
      _run, module, options, score, fixture.arrays, part.arrays
    )
    results = record.compiled(run)(params)
    ours |= {f'{tag}_{name}': value for name, value in results.items()}
  return ours


def maskgen_plan(options: Mapping[str, Any], entries: int) -> sampling.Plan:
  """Plan for official arguments of `generate`."""
  return sampling.maskgen_plan(
    options.get('num_sample_steps', 16),
    entries,
    schedule=options.get('mask_schedule_strategy', 'arccos'),
    guidance_scale=1 + options.get('guidance_scale', 12.0),
    guidance_schedule=_GUIDANCE[options.get('guidance_decay', 'cosine')],
    guidance_power=options.get('guidance_decay_scale_pow', 1.0),
    choice_temperature=options.get('randomize_temperature', 1.5),
    anneal_temperature=options.get('softmax_temperature_annealing', True),
    noisy_confidence=options.get('prob_sorting', True),
  )


def _official_plans(fixture: Fixture) -> dict[str, np.ndarray]:
  """Arrays `official_NAME[_ENTRIES]_STEPS`."""
  ours = {}
  for name in fixture.outputs:
    match = re.fullmatch(r'official_([a-z_]+?)(?:_(\d+))?_(\d+)', name)
    if match is None:
      continue
    kind, entries, steps = match[1], int(match[2] or 1), int(match[3])
    plan = maskgen_plan({'num_sample_steps': steps} | _OFFICIAL_RUN, entries)
    ours[name] = {
      'mask_len': plan.masked,
      'cfg': plan.guidance_scale - 1,
      'softmax_temp': plan.temperature,
      'temp': plan.token_noise_weight,
    }[kind]
  return ours


def _run(
  module: MaskGenTransformer,
  options: Mapping[str, Any],
  score: float,
  arrays: Arrays,
  draws: Arrays,
  params: Params,
) -> Arrays:
  """One run of `generate`: its plan, its steps and its first logits."""
  prompts = _prompts(arrays)
  batch = len(prompts.pooled)
  scored = dataclasses.replace(prompts, micro=jnp.full((batch, 1), score))
  pair = with_null(scored, _null(arrays))

  def guided(tokens: jax.Array, scale: jax.Array, *_: None) -> jax.Array:
    both = jnp.concatenate([tokens, tokens])
    logits = call(module, params, both, pair).logits
    conditional, unconditional = jnp.split(logits, 2)
    return divergence.guide(conditional, unconditional, scale)

  plan = maskgen_plan(options, module.length)
  mask = module.vocab_size
  start = jnp.full((batch, module.length, 1), mask)
  steps = sampling.decode(
    guided, plan, start, _noise(draws), num_codes=mask, mask_id=mask
  ).steps
  inputs = jnp.where(steps.masked, mask, steps.predicted)
  return {
    'cfg_scale': plan.guidance_scale - 1,
    'temp': plan.token_noise_weight,
    'softmax_temp': plan.temperature,
    'mask_len': plan.masked,
    'logits0': guided(start, plan.guidance_scale[0])[:, :, 0],
    'ids': jnp.concatenate([start[None], inputs])[..., 0],
  }


def _noise(draws: Arrays) -> sampling.Noise:
  """Gumbel noise from the fixture's uniforms; confidences may have none."""
  log = lambda x: jnp.log(jnp.maximum(x, 1e-20))
  gumbel = lambda u: -log(-log(jnp.asarray(u)))
  tokens = gumbel(draws['u_tok'])[:, :, :, None]
  if 'u_conf' in draws:
    choices = gumbel(draws['u_conf'])[..., None]
  else:
    choices = jnp.zeros(tokens.shape[:-1])
  return lambda step: (tokens[step], choices[step])


def _prompts(arrays: Arrays) -> TextCondition:
  return TextCondition(arrays['condition'], arrays['pooled'][:, 0])


def _null(arrays: Arrays) -> TextCondition:
  return TextCondition(arrays['null_condition'], arrays['null_pooled'][:, 0])


def _generator(
  module: MaskGenTransformer, fixture: Fixture, params: Params
) -> dict[str, jax.Array]:
  arrays = fixture.arrays
  bound = module.bind({'params': params})
  tokens = arrays['tokens'][..., None]
  condition = dataclasses.replace(
    _prompts(arrays), micro=arrays['aesthetic'][:, None]
  )
  output = bound(tokens, condition)
  soft = record.soft_path(
    lambda embeddings: bound.backbone(embeddings, condition).logits,
    bound.table(),
    arrays['soft_z'][:, :, None],
    arrays['soft_cot'][:, :, None],
    arrays['soft_mask'][:, :, None] == 1,
  )
  logits = {
    'logits': output.logits,
    **_other_conditions(module, params, tokens, condition, _null(arrays)),
    'soft_logits': soft[1],
    'soft_grad_z': soft[2],
  }
  return {
    **{name: value[:, :, 0] for name, value in logits.items()},
    **_intermediates(module, params, tokens, condition, output.hidden),
    **_losses(fixture, output.logits),
  }


def _other_conditions(
  module: MaskGenTransformer,
  params: Params,
  tokens: Array,
  condition: TextCondition,
  null: TextCondition,
) -> dict[str, jax.Array]:
  """Logits without text, with text for some samples, and with another score."""
  first = np.arange(len(tokens)) == 0
  score = jnp.full((len(tokens), 1), _OTHER_SCORE)
  conditions = {
    'logits_null': dropped(condition, np.ones_like(first), null),
    'logits_half': dropped(condition, first, null),
    'logits_aes': dataclasses.replace(condition, micro=score),
  }
  return {
    name: call(module, params, tokens, other).logits
    for name, other in conditions.items()
  }


def _intermediates(
  module: MaskGenTransformer,
  params: Params,
  tokens: Array,
  condition: TextCondition,
  hidden: jax.Array,
) -> dict[str, jax.Array]:
  bound = module.bind({'params': params})
  modulator = bound.modulator(condition)
  image = bound.sequence(bound.embed(tokens))
  text = bound.text_in(condition.states)
  ours = {
    'x_in': image,
    'txt_in': text,
    'temb': modulator,
    'blk0_img': hidden[0],
    'blk_last_img': hidden[-1],
    'final_norm': bound.last_layer(hidden[-1], modulator),
  }
  if module.micro_width and condition.micro is not None:
    ours['micro'] = bound.score_features(condition.micro[:, 0])
  if module.depth > 1:
    # The scan returns no text, so the first block runs again by itself.
    first = jax.tree.map(lambda leaf: leaf[0], params['layers'])
    block = JointBlock(module.num_heads, module.mlp_width)
    (_, ours['blk0_txt']), _ = block.apply(
      {'params': first}, (image, text), nn.silu(modulator)
    )
  return ours


def _losses(fixture: Fixture, logits: jax.Array) -> dict[str, jax.Array]:
  losses = fixture.config['model_config']['losses']
  targets = fixture.arrays['targets'][..., None]
  mask = fixture.arrays['loss_mask'][..., None] == 1
  loss = divergence.masked_cross_entropy(
    logits,
    targets,
    mask,
    label_smoothing=losses['label_smoothing'],
    unmasked_weight=losses['loss_weight_unmasked_token'],
  )
  right = logits.argmax(-1) == targets
  # The official share is a mean over each sample's tokens, then over samples.
  share = (right & mask).sum((1, 2)) / (mask.sum((1, 2)) + 1e-8)
  return {'loss': loss, 'loss_correct': share.mean()}
