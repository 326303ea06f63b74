"""Fixtures of the samplers of MaskGit and MaskBit, with given noise."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from softdimo_jax.convert.maskbit import convert_maskbit
from softdimo_jax.convert.maskbit_tokenizer import convert_maskbit_tokenizer
from softdimo_jax.convert.maskgit import convert_maskgit
from softdimo_jax.convert.taming_vqgan import convert_taming_vqgan
from softdimo_jax.families.family import Family
from softdimo_jax.method import masking, sampling
from softdimo_jax.networks.call import call
from softdimo_jax.networks.generators.maskgit import MaskGitTransformer
from softdimo_jax.ops import quantization
from softdimo_jax.parity import official_generators, official_tokenizers, record
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.record import Arrays
from softdimo_jax.types import Params

Options = Mapping[str, Any]

_MASKGIT_ORDERS = {
  'linear': 'confidence',
  'no': 'confidence',
  'warm_up': 'warm_up',
  'random': 'random',
}
_MASKBIT_GUIDANCE = {
  'none': 'constant',
  'linear': 'open_linear',
  'cosine': 'cosine',
}


def maskgit_sampler(fixture: Fixture) -> Arrays:
  """`MaskGIT.sample`, Di[M]O's one-step generation and its masking."""
  config = fixture.config
  module = official_generators.maskgit_transformer(config['model'])
  tokenizer = official_tokenizers.taming_vqgan(config['vqgan'])
  params, _ = convert_maskgit(fixture.state_dict('model'), module)
  decoder, _ = convert_taming_vqgan(fixture.state_dict('vqgan'), tokenizer)
  ours = _forward_masking(fixture.arrays, module.vocab_size)
  family = Family('maskgit', module, tokenizer)
  ours |= _runs(fixture, _maskgit_run, family, params, decoder)
  for tag, options in config.get('onestep', {}).items():
    run = functools.partial(_one_step, module, options, fixture.arrays)
    results = record.compiled(run)(params)
    ours |= {f'{tag}_{name}': value for name, value in results.items()}
  return ours


def maskbit_sampler(fixture: Fixture) -> Arrays:
  """`modeling/modules/sampling.py:sample`."""
  config = fixture.config
  module = official_generators.maskbit_generator(
    config['model'], tables=config['model'].get('class') == 'Bert'
  )
  tokenizer = official_tokenizers.maskbit_tokenizer(
    config['tokenizer']['config'],
    legacy=config['tokenizer'].get('legacy', False),
  )
  params, _ = convert_maskbit(fixture.state_dict('model'), module)
  decoder, _ = convert_maskbit_tokenizer(
    fixture.state_dict('tokenizer'), tokenizer
  )
  # This tokenizer decodes whole codes, not groups.
  family = Family('maskbit', module, tokenizer)
  return _runs(fixture, _maskbit_run, family, params, decoder)


@dataclasses.dataclass(frozen=True)
class _Run:
  """One run of an official sampler.

  Attributes:
    options: arguments of the run.
    labels: int [B].
    arrays: random draws of the run.
  """

  options: Options
  labels: np.ndarray
  arrays: Arrays


def _runs(
  fixture: Fixture,
  compute: Callable[[Family, _Run, Params, Params], Arrays],
  family: Family,
  *params: Params,
) -> dict[str, Any]:
  """Results of all runs of the fixture, prefixed with their tags."""
  ours = {}
  runs = fixture.config.get('runs', {})
  for tag, part in fixture.tagged(runs):
    run = _Run(runs[tag], fixture.arrays['labels'], part.arrays)
    results = record.compiled(functools.partial(compute, family, run))(*params)
    ours |= {f'{tag}_{name}': value for name, value in results.items()}
  return ours


def _decode(
  family: Family, params: Params, plan: sampling.Plan, run: _Run
) -> sampling.Decoding:
  """Decodes all-masked images with the draws of one run."""
  labels = run.labels
  noise, num_codes = _given_noise(run.arrays, family.token_shape)
  return sampling.decode(
    lambda tokens, scale, _: family.guided_logits(
      params, tokens, labels, scale
    ),
    plan,
    jnp.full((len(labels), *family.token_shape), family.mask_id),
    noise,
    num_codes=num_codes,
    mask_id=family.mask_id,
  )


def _given_noise(
  arrays: Arrays, shape: tuple[int, int]
) -> tuple[sampling.Noise, int]:
  """Noise from the fixture's draws, `gumbel_token` and an array `..._conf`.

  Args:
    arrays: random draws of one run.
    shape: (L, G); in the official arrays it may be (L,).

  Returns:
    The noise, and its number of logits.
  """
  tokens = jnp.asarray(arrays['gumbel_token'])
  tokens = tokens.reshape(*tokens.shape[:2], *shape, -1)
  names = [name for name in sorted(arrays) if name.endswith('_conf')]
  choices = jnp.asarray(arrays[names[0] if names else 'gumbel_conf'])
  choices = choices.reshape(tokens.shape[:-1])
  return lambda step: (tokens[step], choices[step]), tokens.shape[-1]


def _maskgit_run(
  family: Family, run: _Run, params: Params, decoder: Params
) -> dict[str, jax.Array]:
  options = run.options
  noisy = options['randomize'] == 'linear'
  plan = sampling.maskgit_plan(
    options['step'],
    family.generator.length,
    schedule=options['sched_mode'],
    guidance_scale=1 + options['w'],
    temperature=1 / options['sm_temp'],
    choice_temperature=options['r_temp'] if noisy else 0,
    order=_MASKGIT_ORDERS[options['randomize']],
  )
  decoding = _decode(family, params, plan, run)
  # The official code may also sample the mask.
  tokens = jnp.minimum(decoding.tokens, family.vocab_size - 1)
  images = call(family.tokenizer, decoder, tokens, method='decode')
  square = lambda x: _square(x[..., 0])
  return {
    'pred_codes': square(decoding.steps.sampled),
    'masks': square(decoding.steps.masked),
    'final_codes': square(tokens),
    'image': record.to_nchw(2 * images - 1),
  }


def _maskbit_run(
  family: Family, run: _Run, params: Params, decoder: Params
) -> dict[str, jax.Array]:
  plan = maskbit_plan(run.options, math.prod(family.token_shape))
  decoding = _decode(family, params, plan, run)
  codes = quantization.merge_tokens(
    decoding.tokens, num_bits=family.generator.num_bits
  )
  images = call(family.tokenizer, decoder, codes[..., None], method='decode')
  return {
    'tokens': decoding.steps.predicted,
    'final_indices': codes,
    'image': record.to_nchw(images),
  }


def maskbit_plan(options: Options, entries: int) -> sampling.Plan:
  """Plan for official arguments of `sample`."""
  return sampling.maskbit_plan(
    options['num_steps'],
    entries,
    schedule=options['mask_schedule_strategy'],
    guidance_scale=1 + options['guidance_scale'],
    guidance_schedule=_MASKBIT_GUIDANCE[options['guidance_annealing']],
    guidance_power=options['scale_pow'],
    temperature=options.get('softmax_temperature', 1.0),
    anneal_temperature=options['use_sampling_annealing'],
    choice_temperature=options.get('randomize_temperature', 0.0),
  )


def _one_step(
  module: MaskGitTransformer,
  options: Options,
  arrays: Arrays,
  params: Params,
) -> dict[str, jax.Array]:
  """Di[M]O's `generate_one_step`, from given codes and draws."""
  codes = arrays['os_init_codes']
  flat = codes.reshape(len(codes), module.length)
  count = masking.mask_count(
    jnp.full(len(codes), options['fixed_ratio']), module.length
  )
  mask = masking.lowest_mask(np.argsort(arrays['os_rand']), count)
  tokens = jnp.where(mask, module.vocab_size, flat)
  bound = module.bind({'params': params})
  embeddings = masking.mix_noise(
    bound.embed(tokens[..., None]),
    arrays['os_emb_noise'],
    options['noise_emb_perturb'],
  )
  logits = bound.backbone(embeddings, arrays['labels']).logits[:, :, 0]
  likely = sampling.keep_likely(
    logits / options['gen_temp'],
    top_k=options['top_k'],
    top_p=options['top_p'] or 1.0,  # officially 0 means off
  )
  sampled = (likely + arrays['os_gumbel_token']).argmax(-1)
  return {
    'x_init': _square(tokens),
    'logits': logits,
    'codes': _square(sampled),
  }


def _forward_masking(arrays: Arrays, mask_id: int) -> dict[str, jax.Array]:
  """Di[M]O's exact count, and the teacher's independent masking."""
  codes = arrays['fw_codes']
  draws = arrays['fw_rand']
  ours = {}
  for schedule in masking.SCHEDULES:
    rate = masking.mask_rate(schedule, arrays['fw_r'])
    count = masking.mask_count(rate, draws.shape[-1])
    exact = masking.lowest_mask(np.argsort(draws), count)
    independent = draws < rate[:, None]
    masked = lambda mask: jnp.where(mask.reshape(codes.shape), mask_id, codes)
    ours[f'fw_{schedule}_ratio'] = rate
    ours[f'fw_{schedule}_codes'] = masked(exact)
    ours[f'fwb_{schedule}_codes'] = masked(independent)
  return ours


def _square(x: jax.Array) -> jax.Array:
  """[..., P^2] -> [..., P, P]."""
  side = int(x.shape[-1] ** 0.5)
  return x.reshape(*x.shape[:-1], side, side)
