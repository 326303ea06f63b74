"""Fixtures of the generator Meissonic and its scheduler."""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softdimo_jax.convert.meissonic import convert_meissonic
from softdimo_jax.method import divergence, masking, sampling
from softdimo_jax.method.sampling import schedules
from softdimo_jax.networks.call import call
from softdimo_jax.networks.generators.condition import TextCondition
from softdimo_jax.networks.generators.meissonic import MeissonicTransformer
from softdimo_jax.parity import official_generators, record
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.record import Array, Arrays, OutputOf
from softdimo_jax.types import Params

# Scales of `cfg_logits` and `logits_noise`, according to the fixtures'
# descriptions.
_GUIDANCE_SCALE = 9.0
_NOISE_SCALE = 0.3
# Side of a token in pixels, for the arrays `official_*`.
_STRIDE = 16


def meissonic_transformer(fixture: Fixture) -> Arrays:
  """`Transformer2DModel`: forward passes, intermediates and the soft path."""
  module = official_generators.meissonic(
    fixture.config['model'], tuple(fixture.config['hw'])
  )
  params, _ = convert_meissonic(fixture.state_dict(), module)
  run = lambda function: record.compiled(
    functools.partial(function, module, fixture.arrays)
  )
  return {
    **run(_forward)(params),
    **run(_soft)(params),
    **_other_conditions(module, fixture.arrays, params),
    **_positions(module, fixture.arrays),
  }


def meissonic_scheduler(fixture: Fixture) -> Arrays:
  """`Scheduler`: its steps, and the number of tokens that stay masked."""
  ours = _official_counts(fixture)
  config = fixture.config
  runs = config['runs']
  for tag, part in fixture.tagged(runs):
    run = functools.partial(_run, config, runs[tag], part.arrays)
    results = record.compiled(run)()
    ours |= {f'{tag}_{name}': value for name, value in results.items()}
  ours['add_noise_out'] = _noised(fixture)
  return ours


def _forward(
  module: MeissonicTransformer, arrays: Arrays, params: Params
) -> dict[str, jax.Array]:
  """Logits at the first time, and their intermediates."""
  condition = _condition(module, arrays, 'timestep_a')
  output, output_of = record.apply(
    module, params, _tokens(module, arrays), condition
  )
  bound = module.bind({'params': params})
  return {
    'logits_a': _map(module.grid, output.logits[:, :, 0]),
    'temb_a': bound.modulator(condition),
    'micro_emb': bound.micro_features(jnp.asarray(arrays['micro_conds'])),
    'time_proj_b': bound.time_features(
      jnp.asarray(arrays['timestep_b'], jnp.float32)
    ),
    **_intermediates(module, output_of),
    'up': _map(module.grid, bound.last_layer(output.hidden[-1])),
  }


def _intermediates(
  module: MeissonicTransformer, output_of: OutputOf
) -> dict[str, jax.Array]:
  features = output_of('emb_dense')
  down = output_of('down') if module.downsample else features
  # Stacked blocks return (carries, outputs), with layers on axis 0.
  (_, text), joint = output_of('joint_layers')
  _, single = output_of('single_layers')
  return {
    'cond': output_of('micro_in'),
    'embed': _map(module.grid, features),
    'txt_in': output_of('text_norm'),
    'down': _map(module.block_grid, down),
    'x_in': output_of('in_dense'),
    'mm0_img': joint[0],
    'mm_last_img': joint[-1],
    'mm_last_txt': text[-1],
    'sm0': single[0],
    'pre_up': output_of('out_dense'),
  }


def _soft(
  module: MeissonicTransformer, arrays: Arrays, params: Params
) -> dict[str, jax.Array]:
  bound = module.bind({'params': params})
  condition = _condition(module, arrays, 'timestep_a')
  batch, *_, codes = arrays['soft_z'].shape
  _, logits, gradient = record.soft_path(
    lambda embeddings: bound.backbone(embeddings, condition).logits,
    bound.table(),
    arrays['soft_z'].reshape(batch, -1, 1, codes),
    record.to_nhwc(arrays['soft_cot']).reshape(batch, -1, 1, codes),
    arrays['soft_mask'].reshape(batch, -1, 1) == 1,
  )
  return {
    'soft_logits': _map(module.grid, logits[:, :, 0]),
    'soft_grad_z': gradient.reshape(arrays['soft_z'].shape),
  }


def _other_conditions(
  module: MeissonicTransformer, arrays: Arrays, params: Params
) -> dict[str, jax.Array]:
  """Logits at the other times, with noise, and with guidance."""
  # Compiled once, because all shapes are the same.
  compiled = record.compiled(
    lambda params, *inputs: call(
      module, params, *inputs, method='from_features'
    ).logits[:, :, 0]
  )
  run = functools.partial(compiled, params)
  features = record.compiled(functools.partial(_features, module, arrays))(
    params
  )
  batch, _, width = features.shape
  noise = record.to_nhwc(arrays['emb_noise']).reshape(batch, -1, width)
  at = functools.partial(_condition, module, arrays)
  # Two branches for the first sample: its own text, and the second sample's.
  pair = jnp.concatenate([jnp.stack([features[0]] * 2), features[2:]])
  late = at('timestep_b')
  micro = jnp.asarray(arrays['micro_conds'])
  micro = micro.at[1].set(micro[0])
  branches = run(pair, dataclasses.replace(late, micro=micro))
  logits = {
    'logits_b': run(features, late),
    'logits_c': run(features, at('timestep_c')),
    'logits_noise': run(
      masking.mix_noise(features, noise, _NOISE_SCALE), at('timestep_a')
    ),
    'cfg_logits': divergence.guide(
      branches[:1], branches[1:2], _GUIDANCE_SCALE
    ),
  }
  return {name: _map(module.grid, value) for name, value in logits.items()}


def _features(
  module: MeissonicTransformer, arrays: Arrays, params: Params
) -> jax.Array:
  bound = module.bind({'params': params})
  return bound.features(bound.embed(_tokens(module, arrays)))


def _positions(
  module: MeissonicTransformer, arrays: Arrays
) -> dict[str, np.ndarray]:
  cosine, sine = module.rotation(arrays['encoder_hidden_states'].shape[1])
  return {
    'img_ids': module.positions(),
    'rope_cos': cosine,
    'rope_sin': sine,
  }


def _condition(
  module: MeissonicTransformer, arrays: Arrays, time: str
) -> TextCondition:
  """The fixture's text at the times of the array `time`, [B] or a scalar."""
  times = jnp.asarray(arrays[time], jnp.float32)
  return TextCondition(
    states=arrays['encoder_hidden_states'],
    pooled=arrays['pooled'],
    micro=jnp.asarray(arrays['micro_conds']),
    time=jnp.broadcast_to(times, len(arrays['pooled'])),
  )


def _tokens(module: MeissonicTransformer, arrays: Arrays) -> Array:
  """Tokens [B, L, 1]; the official mask id is the table's last row."""
  tokens = arrays['tokens']
  mask = module.vocab_size + module.spare_rows
  tokens = np.where(tokens == mask, module.vocab_size, tokens)
  return tokens.reshape(len(tokens), -1, 1)


def _map(grid: tuple[int, int], x: jax.Array) -> jax.Array:
  """[B, N, C] -> [B, C, h, w]."""
  return record.to_nchw(x.reshape(len(x), *grid, -1))


def _plan(
  options: Mapping[str, Any], entries: int, masked: np.ndarray
) -> sampling.Plan:
  """Plan for official arguments of `Scheduler`."""
  return sampling.meissonic_plan(
    options['steps'],
    entries,
    masked=masked,
    schedule=options.get('schedule', 'cosine'),
    start_share=options.get('starting_mask_ratio', 1.0),
    choice_temperature=options['temperature'],
  )


def _run(
  config: Mapping[str, Any], options: Mapping[str, Any], arrays: Arrays
) -> dict[str, Any]:
  """One run of `step`, with given logits and draws."""
  mask, codes = config['mask_token_id'], config['vocab']
  start, steps = arrays['start'], options['steps']
  shape = (steps, len(start), -1, 1)
  flat = start.reshape(*shape[1:])
  plan = _plan(options, flat.shape[1], (flat == mask).sum((1, 2)))
  logits = jnp.moveaxis(arrays['logits'], 2, -1).reshape(*shape, codes)
  gumbel = lambda u: -jnp.log(-jnp.log(jnp.asarray(u)))
  tokens = gumbel(arrays['u_cat']).reshape(*shape, codes)
  choices = gumbel(arrays['u_conf']).reshape(shape)
  # The fixture gives guided logits per step, in the order of falling times.
  decoding = sampling.decode(
    lambda *inputs: logits[steps - 1 - inputs[-1].astype(int)],
    plan,
    flat,
    lambda step: (tokens[step], choices[step]),
    num_codes=codes,
    mask_id=mask,
  )
  steps_of = decoding.steps
  kept = jnp.where(steps_of.masked, mask, steps_of.predicted)
  return {
    'timesteps': plan.time,
    'temperatures': plan.noise_weight,
    'pred': steps_of.predicted.reshape(steps, *start.shape),
    'prev': kept.reshape(steps, *start.shape),
    'n_masked': steps_of.masked.sum((2, 3)),
  }


def _official_counts(fixture: Fixture) -> dict[str, np.ndarray]:
  """Arrays `official_mask_len_SIDEpx_STEPS`."""
  ours = {}
  for name in fixture.outputs:
    match = re.fullmatch(r'official_mask_len_(\d+)px_(\d+)', name)
    if match is not None:
      entries, steps = (int(match[1]) // _STRIDE) ** 2, int(match[2])
      ours[name] = sampling.meissonic_plan(steps, entries).masked
  return ours


def _noised(fixture: Fixture) -> np.ndarray:
  """`add_noise` at each step of the first run."""
  options = next(iter(fixture.config['runs'].values()))
  share = schedules.masked_share(
    options.get('schedule', 'cosine'),
    schedules.progress_after(options['steps']),
  )
  mask = fixture.arrays['add_noise_u'] < share[:, None, None, None]
  clean = fixture.arrays['add_noise_clean']
  return np.where(mask, fixture.config['mask_token_id'], clean)
