"""Validation of a configuration, before the first compilation."""

import jax
import ml_collections

from softdimo_jax import families
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import curves, pretrained
from softdimo_jax.experiment.checks import between, choice, divisor
from softdimo_jax.experiment.config import SPREAD
from softdimo_jax.experiment.inputs import open_inputs
from softdimo_jax.experiment.stages import KINDS
from softdimo_jax.families.family import Family
from softdimo_jax.method import adversarial, divergence, masking, sampling
from softdimo_jax.method.soft_embedding import RELAXATIONS
from softdimo_jax.runtime import sharding
from softdimo_jax.training import optim
from softdimo_jax.training.distill.reward_term import used_terms
from softdimo_jax.training.distill.student import temperature_of


def validate(config: ml_collections.ConfigDict) -> None:
  """Checks everything that can be checked before the first compilation.

  Raises:
    UserError: naming the field and its allowed values.
  """
  try:
    family = families.build(config.model)
    for init in (family.init, family.init_tokenizer):
      jax.eval_shape(init, jax.random.key(0))
  except (ValueError, TypeError) as error:
    raise UserError(f'config.model: {error}') from error
  pieces = _validate_mesh(config)
  available = _validate_pretrained(config)
  inputs = open_inputs(config, family, {}.__getitem__)  # reads no parameters
  for name in config.stages:
    if name not in config:
      raise UserError(
        f'config.stages names {name!r}, but config.{name} does not exist'
      )
  try:
    inputs.validate()
  except ValueError as error:
    raise UserError(f'config.{error}') from error
  for position, name in enumerate(config.stages):
    earlier = (*available, *config.stages[:position])
    rewards = inputs.reward_names(earlier)
    try:
      _validate_stage(config[name], family, earlier, rewards, pieces)
    except ValueError as error:
      raise UserError(f'config.{name}: {error}') from error
  try:
    _validate_sampling(config, family)
    curves.validate(config, inputs)
  except ValueError as error:
    raise UserError(f'config.{error}') from error


def _validate_mesh(config: ml_collections.ConfigDict) -> int:
  """Number of shards of a batch."""
  mesh = config.get(SPREAD)
  try:
    if mesh is not None:
      choice('frozen', mesh.frozen, sharding.FROZEN)
    sizes = sharding.mesh_shape(mesh, jax.device_count())
  except ValueError as error:
    raise UserError(f'config.mesh: {error}') from error
  return sizes['data'] * sizes['fsdp']


def _validate_pretrained(config: ml_collections.ConfigDict) -> tuple[str, ...]:
  """Names of the pretrained stages."""
  if 'pretrained' not in config:
    return ()
  try:
    choice('config.weights', config.weights, pretrained.WEIGHTS)
  except ValueError as error:
    raise UserError(str(error)) from error
  return tuple(x for x in config.pretrained if x not in config.stages)


def _validate_stage(
  stage: ml_collections.ConfigDict,
  family: Family,
  earlier: tuple[str, ...],
  rewarding: tuple[str, ...],
  pieces: int,
) -> None:
  choice('kind', stage.kind, KINDS)
  if stage.kind == 'tokenizer' and family.tokenizer.reads_text:
    raise ValueError(
      'a tokenizer whose decoder reads text cannot be trained; give a '
      'pretrained one with config.pretrained.tokenizer'
    )
  for name in ('steps', 'batch_size'):
    if stage[name] < 1:
      raise ValueError(f'{name}={stage[name]} must be at least 1')
  accumulation = stage.get('accumulation', 1)
  if accumulation < 1:
    raise ValueError(f'accumulation={accumulation} must be at least 1')
  sharding.check_batch('batch_size', stage.batch_size, pieces, accumulation)
  _validate_optimizer('optimizer', stage.optimizer)
  between('ema_decay', stage.ema_decay, 0, 1)
  if stage.kind == 'teacher':
    choice('mask_schedule', stage.mask_schedule, masking.SCHEDULES)
  if stage.kind == 'preference':
    choice('start', stage.start, earlier)
    choice('teacher', 'teacher', earlier)
  if stage.kind == 'distill':
    _validate_distillation(stage, family, earlier)
    if stage.reward.weight > 0:
      part = stage.batch_size // accumulation
      _validate_reward(stage.reward, part, pieces, rewarding)


def _validate_distillation(
  stage: ml_collections.ConfigDict,
  family: Family,
  earlier: tuple[str, ...],
) -> None:
  choice('start', stage.start, earlier)
  choice('frozen_dtype', stage.frozen_dtype, optim.DTYPES)
  choice('mask.schedule', stage.mask.schedule, masking.SCHEDULES)
  choice(
    'divergence.reduction', stage.divergence.reduction, divergence.REDUCTIONS
  )
  divisor(
    'divergence.chunk',
    stage.divergence.chunk,
    ('positions', family.token_shape[0]),
  )
  for name, value in (
    ('init.mask_ratio', stage.init.mask_ratio),
    ('init.noise_scale', stage.init.noise_scale),
    ('gan.max_mask_ratio', stage.gan.max_mask_ratio),
  ):
    between(name, value, 0, 1)
  choice('init.noise_unit', stage.init.noise_unit, masking.NOISE_UNITS)
  for part in ('gan', 'reward'):
    temperature = temperature_of(stage, part)
    if stage[part].weight > 0 and temperature <= 0:
      raise ValueError(
        f'{part}.temperature={temperature} must be positive: the arg max has '
        'no gradient'
      )
  updates, burn_in = stage.auxiliary.updates, stage.auxiliary.burn_in
  if updates < 1:
    raise ValueError(f'auxiliary.updates={updates} must be at least 1')
  between('auxiliary.burn_in', burn_in, 0, stage.steps - 1)
  _validate_optimizer('auxiliary.optimizer', stage.auxiliary.optimizer)
  weights = [stage[x].weight for x in ('divergence', 'gan', 'reward')]
  if max(weights) <= 0:
    raise ValueError(
      'divergence.weight, gan.weight and reward.weight are all 0, but the '
      'generator needs a loss'
    )
  gan = stage.gan
  if gan.weight > 0:
    choice('gan.loss', gan.loss, adversarial.ADVERSARIES)
    choice('gan.relaxation', gan.relaxation, RELAXATIONS)
    choice('gan.fakes', gan.fakes, ('soft', 'hard'))
    _validate_optimizer('gan.optimizer', gan.optimizer)
    depth = family.generator.depth
    if not gan.taps or not all(0 <= tap < depth for tap in gan.taps):
      raise ValueError(
        f'gan.taps={tuple(gan.taps)} must name blocks in 0..{depth - 1}'
      )


def _validate_reward(
  reward: ml_collections.ConfigDict,
  batch: int,
  pieces: int,
  rewarding: tuple[str, ...],
) -> None:
  choice('reward.relaxation', reward.relaxation, RELAXATIONS)
  divisor(
    'reward.micro_batch', reward.micro_batch, ('samples of a batch', batch)
  )
  if reward.micro_batch:
    sharding.check_batch('reward.micro_batch', reward.micro_batch, pieces)
  if not used_terms(reward):
    raise ValueError('reward.terms is empty or has weights of 0 only')
  for name in reward.terms:
    choice('reward.terms', name, rewarding)


def _validate_sampling(
  config: ml_collections.ConfigDict, family: Family
) -> None:
  length, groups = family.token_shape
  options = config.sampling
  plan = options.plan.to_dict()
  name = plan.pop('name')
  steps = {'sampling': (options.steps,)}
  if 'evaluation' in config:
    steps['evaluation.teacher_steps'] = config.evaluation.teacher_steps
  for stage in config.stages:
    if config[stage].kind == 'preference':
      steps[f'{stage}.teacher_steps'] = config[stage].teacher_steps
  for field, counts in steps.items():
    for count in counts:
      try:
        sampling.make_plan(name, count, length * groups, **plan)
      except ValueError as error:
        raise ValueError(f'{field}: {error}') from error


def _validate_optimizer(name: str, config: ml_collections.ConfigDict) -> None:
  choice(f'{name}.decay', config.decay, optim.DECAYS)
  choice(f'{name}.moment_dtype', config.moment_dtype, optim.DTYPES)
  if config.learning_rate <= 0:
    raise ValueError(
      f'{name}.learning_rate={config.learning_rate} must be positive'
    )
