"""Validation of a configuration, before the first compilation."""

import jax
import ml_collections

from softdimo_jax import families
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import curves, pretrained, ranges
from softdimo_jax.experiment.checks import between, choice, divisor
from softdimo_jax.experiment.config import SPREAD
from softdimo_jax.experiment.inputs import open_inputs
from softdimo_jax.experiment.run import GENERATORS, STUDENTS
from softdimo_jax.experiment.stages import KINDS
from softdimo_jax.families.family import Family
from softdimo_jax.method import adversarial, divergence, masking, sampling
from softdimo_jax.method.reinforce import ESTIMATORS
from softdimo_jax.runtime import sharding
from softdimo_jax.training import optim
from softdimo_jax.training.distill.reward_term import used_terms
from softdimo_jax.training.distill.student import temperature_of

# Losses of a distillation.
_TERMS = ('divergence', 'gan', 'reward')


def validate(config: ml_collections.ConfigDict) -> None:
  """Checks everything that can be checked before the first compilation.

  Raises:
    UserError: naming the field and its allowed values.
  """
  try:
    ranges.validate(config)
  except ValueError as error:
    raise UserError(f'config.{error}') from error
  try:
    family = families.build(config.model)
    for init in (family.init, family.init_tokenizer):
      jax.eval_shape(init, jax.random.key(0))
  except (ValueError, TypeError, ZeroDivisionError) as error:
    raise UserError(f'config.model: {error}') from error
  pieces = _validate_mesh(config)
  available = _validate_pretrained(config)
  inputs = open_inputs(config, family, {}.__getitem__)  # reads no parameters
  repeated = sorted(x for x in config.stages if config.stages.count(x) > 1)
  if repeated:
    raise UserError(f'config.stages names {repeated[0]!r} more than once')
  for name in config.stages:
    if name not in config:
      raise UserError(
        f'config.stages names {name!r}, but config.{name} does not exist'
      )
    if not isinstance(config[name], ml_collections.ConfigDict) or (
      'kind' not in config[name]
    ):
      raise UserError(
        f'config.stages names {name!r}, but config.{name} is not a stage: it '
        'has no kind'
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
      if config[name].kind in STUDENTS:
        choice('start', config[name].start, _generators(config, earlier))
    except ValueError as error:
      raise UserError(f'config.{name}: {error}') from error
    except (AttributeError, KeyError) as error:
      reason = str(error).strip().splitlines()[0]
      raise UserError(f'config.{name} has no field {reason}') from error
  try:
    _validate_sampling(config, family)
    curves.validate(config, inputs)
  except ValueError as error:
    raise UserError(f'config.{error}') from error


def _generators(
  config: ml_collections.ConfigDict, stages: tuple[str, ...]
) -> tuple[str, ...]:
  """Those of the stages that train or load a generator."""
  kinds = {name: config.get(name, {}).get('kind') for name in stages}
  return tuple(name for name in stages if kinds[name] in GENERATORS)


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
  accumulation = stage.get('accumulation', 1)
  sharding.check_batch('batch_size', stage.batch_size, pieces, accumulation)
  _validate_optimizer('optimizer', stage.optimizer)
  if stage.kind == 'teacher':
    choice('mask_schedule', stage.mask_schedule, masking.SCHEDULES)
  if stage.kind == 'preference':
    choice('start', stage.start, earlier)
    choice('teacher', 'teacher', earlier)
  if stage.kind == 'rectify':
    _validate_start(stage.init)
    choice('teacher', 'teacher', earlier)
  if stage.kind == 'distill':
    _validate_distillation(stage, family)
    if stage.reward.weight > 0:
      part = stage.batch_size // accumulation
      _validate_reward(stage.reward, part, pieces, rewarding)


def _validate_distillation(
  stage: ml_collections.ConfigDict, family: Family
) -> None:
  choice('frozen_dtype', stage.frozen_dtype, optim.DTYPES)
  _validate_start(stage.init)
  choice('mask.schedule', stage.mask.schedule, masking.SCHEDULES)
  between('mask.low', stage.mask.low, 0, stage.mask.high)
  choice(
    'divergence.reduction', stage.divergence.reduction, divergence.REDUCTIONS
  )
  divisor(
    'divergence.chunk',
    stage.divergence.chunk,
    ('positions', family.token_shape[0]),
  )
  _validate_temperatures(stage)
  _validate_auxiliary(stage)
  if not any(stage[x].weight for x in _TERMS):
    raise ValueError(
      'divergence.weight, gan.weight and reward.weight are all 0, but the '
      'generator needs a loss'
    )
  _validate_choices(stage)
  if stage.gan.weight > 0:
    _validate_gan(stage.gan, stage.batch_size // stage.accumulation, family)


def _validate_choices(stage: ml_collections.ConfigDict) -> None:
  """Words of the losses, whether or not they have a weight."""
  choice('gan.loss', stage.gan.loss, adversarial.ADVERSARIES)
  choice('gan.fakes', stage.gan.fakes, ('soft', 'hard'))
  for part in ('gan', 'reward'):
    choice(f'{part}.relaxation', stage[part].relaxation, ESTIMATORS)


def _validate_start(init: ml_collections.ConfigDict) -> None:
  """The section of x_init."""
  if init.max_mask_ratio is not None:
    between('init.max_mask_ratio', init.max_mask_ratio, init.mask_ratio, 1)
  choice('init.noise_unit', init.noise_unit, masking.NOISE_UNITS)
  choice('init.noise_ramp', init.noise_ramp, ('', *masking.RAMPS))


def _validate_temperatures(stage: ml_collections.ConfigDict) -> None:
  for part in ('gan', 'reward'):
    temperature = temperature_of(stage, part)
    if stage[part].weight > 0 and temperature <= 0:
      raise ValueError(
        f'{part}.temperature={temperature} must be positive: the arg max has '
        'no gradient'
      )


def _validate_auxiliary(stage: ml_collections.ConfigDict) -> None:
  auxiliary = stage.auxiliary
  between('auxiliary.burn_in', auxiliary.burn_in, 0, stage.steps - 1)
  if auxiliary.burn_in and stage.divergence.weight == 0:
    raise ValueError(
      f'auxiliary.burn_in={auxiliary.burn_in} needs an auxiliary, but there is '
      'none if divergence.weight is 0'
    )
  _validate_optimizer('auxiliary.optimizer', auxiliary.optimizer)


def _validate_gan(
  gan: ml_collections.ConfigDict, batch: int, family: Family
) -> None:
  _validate_baseline('gan', gan, batch)
  if not 0 <= gan.max_mask_ratio < 1:
    raise ValueError(
      f'gan.max_mask_ratio={gan.max_mask_ratio} must be in [0, 1): the heads '
      'cannot judge images of masks only'
    )
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
  divisor(
    'reward.micro_batch', reward.micro_batch, ('samples of a batch', batch)
  )
  if reward.micro_batch:
    sharding.check_batch('reward.micro_batch', reward.micro_batch, pieces)
  _validate_baseline('reward', reward, reward.micro_batch or batch)
  if not used_terms(reward):
    raise ValueError('reward.terms is empty or has weights of 0 only')
  for name in reward.terms:
    choice('reward.terms', name, rewarding)


def _validate_baseline(
  name: str, term: ml_collections.ConfigDict, batch: int
) -> None:
  """REINFORCE compares a sample with the others of its part of the batch."""
  if term.relaxation == 'reinforce' and batch < 2:
    raise ValueError(
      f"{name}.relaxation='reinforce' needs at least 2 samples at once, not "
      f'{batch}: raise batch_size (or micro_batch), or lower accumulation'
    )


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
    for field in ('teacher_steps', 'guidance_scales'):
      _validate_distinct(
        f'evaluation.{field}', config.evaluation.get(field, ())
      )
  for stage in config.stages:
    if config[stage].kind == 'preference':
      steps[f'{stage}.teacher_steps'] = config[stage].teacher_steps
    if config[stage].kind == 'rectify':
      steps[f'{stage}.teacher_steps'] = (config[stage].teacher_steps,)
  for field, counts in steps.items():
    for count in counts:
      try:
        sampling.make_plan(name, count, length * groups, **plan)
      except ValueError as error:
        raise ValueError(f'{field}: {error}') from error


def _validate_distinct(name: str, values: tuple[float, ...]) -> None:
  if len(set(values)) < len(values):
    raise ValueError(
      f'{name}={values} has a value twice, and the report would have rows '
      'twice; a flag that is given twice adds to a tuple'
    )


def _validate_optimizer(name: str, config: ml_collections.ConfigDict) -> None:
  choice(f'{name}.decay', config.decay, optim.DECAYS)
  choice(f'{name}.moment_dtype', config.moment_dtype, optim.DTYPES)
