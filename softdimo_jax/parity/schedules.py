"""Fixtures of the schedules and other pure functions of the class teachers."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from softdimo_jax.errors import UserError
from softdimo_jax.method import masking, sampling
from softdimo_jax.method.sampling import schedules
from softdimo_jax.ops import quantization
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.generators import cross_entropy
from softdimo_jax.parity.record import Array, Arrays
from softdimo_jax.parity.samplers import maskbit_plan
from softdimo_jax.training import optim
from softdimo_jax.training.ema import ema_rate

# Arguments of the official calls that the fixtures do not contain.
_DIMO_EMA_DECAY = 0.9999
_ENTROPY_TEMPERATURE = 0.01


def class_schedules(fixture: Fixture) -> Arrays:
  """All arrays of the fixture."""
  return {
    **_dimo(fixture),
    **_halton(fixture.config),
    **_maskbit(fixture),
    **_maskbit_training(fixture),
    **_google(fixture),
  }


def _dimo(fixture: Fixture) -> dict[str, Any]:
  arrays, config = fixture.arrays, fixture.config
  ours: dict[str, Any] = {
    f'dimo_adap_{schedule}_{steps}_{side}': sampling.unmask_counts(
      schedule, steps, side * side
    )
    for schedule, steps, side in config['dimo_adap']
  }
  for index, text in enumerate(config['pert']):
    ours[f'dimo_pert_{index}'] = _noise_scale(text, arrays['steps'])
  ours['dimo_ema_rate'] = ema_rate(arrays['steps'], _DIMO_EMA_DECAY)
  for schedule in masking.SCHEDULES:
    rate = masking.mask_rate(schedule, arrays['ratio'])
    ours[f'dimo_ratio_{schedule}'] = rate
    for entries in _numbers(fixture, rf'dimo_count(\d+)_{schedule}'):
      count = masking.mask_count(rate, entries)
      ours[f'dimo_count{entries}_{schedule}'] = count
  return ours


def _noise_scale(text: str, steps: Array) -> jax.Array:
  """Noise scale of an official 'fix_SCALE' or 'warmup_CURVE_STEPS'."""
  kind, *middle, number = text.split('_')
  if kind == 'fix':
    return jnp.full(steps.shape, float(number))
  return masking.noise_ramp(middle[0], steps, int(number))


def _numbers(fixture: Fixture, pattern: str) -> list[int]:
  """The numbers in group 1 of `pattern`, matched with the output names."""
  matches = (re.fullmatch(pattern, name) for name in fixture.outputs)
  return [int(match[1]) for match in matches if match]


def _halton(config: Arrays) -> dict[str, Any]:
  ours = {
    f'halton_order_{side}': schedules.halton_order(side)
    for side in config['halton']
  }
  for steps, side in config['halton_steps']:
    counts = schedules.halton_counts(steps, side * side)
    ours[f'halton_cum_{steps}_{side}'] = counts
  for schedule, steps, side in config['conf_seq']:
    ours[f'halton_conf_seq_{schedule}_{steps}_{side}'] = (
      schedules.revealed_counts(
        schedule, schedules.linspace(0, 1, steps), side * side
      )
    )
  return ours


def _maskbit(fixture: Fixture) -> dict[str, Any]:
  arrays, config = fixture.arrays, fixture.config
  ours: dict[str, Any] = {
    f'maskbit_ratio_{schedule}': schedules.maskbit_share(
      schedule, arrays['ratio']
    )
    for schedule in schedules.SCHEDULES
  }
  for index, options in enumerate(config['mb_runs']):
    entries = options['n'] * options['m']
    plan = maskbit_plan(options, entries)
    ours |= {
      f'maskbit_run{index}_cfg_scale': plan.guidance_scale - 1,
      f'maskbit_run{index}_temperature': plan.temperature,
      f'maskbit_run{index}_num_masked_input': np.append(
        entries, plan.masked[:-1]
      ),
    }
  for bits, groups in config['mb_factor']:
    ours[f'maskbit_split_{bits}_{groups}'] = quantization.split_tokens(
      arrays[f'factor_tokens_{bits}_{groups}'],
      num_bits=bits,
      num_groups=groups,
    )
  return ours


def _maskbit_training(fixture: Fixture) -> dict[str, Any]:
  arrays, config = fixture.arrays, fixture.config
  ours = {}
  for schedule in masking.SCHEDULES:
    name = f'maskbit_train_masked_{schedule}'
    # MaskBit's schedules decrease with the draw in training, too.
    rate = schedules.masked_share(schedule, arrays['mb_train_r'])
    mask = arrays['mb_train_u'] < rate[:, None, None]
    ours[name] = np.where(
      mask, _mask_token(fixture, name), arrays['mb_train_tokens']
    )
  sample, average = quantization.code_entropies(
    arrays['ent_affinity'], temperature=_ENTROPY_TEMPERATURE
  )
  rate = config['lr']
  factor = optim.learning_rate(
    ml_collections.ConfigDict(
      {
        'learning_rate': 1.0,
        'warmup_steps': rate['warmup'],
        'decay': 'cosine',
        'final_ratio': rate['min'],
      }
    ),
    rate['total'],
  )
  # The first official update copies the parameters.
  updates = arrays['steps'] - 1
  decay = ema_rate(np.maximum(updates, 0), config['ema_decay'])
  return ours | {
    'maskbit_per_sample_entropy': sample,
    'maskbit_avg_entropy': average,
    'maskbit_lr_factor': factor(arrays['steps']),
    'maskbit_ema_decay': jnp.where(updates > 0, decay, 0.0),
  }


def _mask_token(fixture: Fixture, name: str) -> int:
  """The mask's id, given only in the description of the array."""
  _, _, description = fixture.meta['arrays'][name]
  match = re.search(r'mask token (\d+)', description)
  if match is None:
    raise UserError(f'the description of {name} does not give its mask token')
  return int(match[1])


def _google(fixture: Fixture) -> dict[str, Any]:
  arrays, config = fixture.arrays, fixture.config
  ours: dict[str, Any] = {
    f'google_ratio_{schedule}': schedules.google_share(
      schedule, arrays['ratio'], config['google_total']
    )
    for schedule in config['google_methods']
  }
  masked = config['google_unknown']
  for steps in config['google_iters']:
    share = schedules.google_share(
      'cosine', schedules.progress_after(steps), masked
    )
    ours[f'google_masklen_raw_{steps}'] = np.floor(share * np.float32(masked))
  scores = (
    np.log(arrays['google_probs'])
    + arrays['google_temperature'] * arrays['google_gumbel']
  )
  ours['google_mask_topk'] = masking.lowest_mask(
    scores, arrays['google_mask_len'][:, 0]
  )
  for assignment in quantization.ASSIGNMENTS:
    ours[f'google_entropy_{assignment}'] = quantization.entropy_loss(
      arrays['ent_affinity'],
      temperature=_ENTROPY_TEMPERATURE,
      assignment=assignment,
    )
  classes = len(arrays.get('google_label_smoothing', [[0]]))
  return ours | {'google_label_smoothing': _smoothed_targets(classes)}


def _smoothed_targets(classes: int) -> jax.Array:
  """Targets of the smoothed cross entropy: softmax minus its gradient."""
  logits, labels = jnp.zeros((classes, classes)), jnp.arange(classes)
  gradient = jax.grad(cross_entropy)(logits, labels, labels >= 0)
  return 1 / classes - classes * gradient
