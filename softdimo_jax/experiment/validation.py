"""Checks of a configuration before the first compilation."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from softdimo_jax import families, rewards
from softdimo_jax.data import shapes
from softdimo_jax.data.prompts import text_tokens
from softdimo_jax.data.shapes import vocabulary
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import pretrained
from softdimo_jax.experiment.config import SPREAD
from softdimo_jax.families.family import Family
from softdimo_jax.method import adversarial, divergence, masking, sampling
from softdimo_jax.method.soft_embedding import RELAXATIONS
from softdimo_jax.runtime import sharding
from softdimo_jax.training import optim
from softdimo_jax.training.distill.reward_term import used_terms

KINDS = (
  'classifier',
  'tokenizer',
  'contrastive',
  'preference',
  'teacher',
  'distill',
)
_REWARDS = ('contrastive', 'preference')


def validate(config: ml_collections.ConfigDict) -> None:
  """Checks everything that can be checked before the first compilation.

  Raises:
    UserError: naming the field and what it may be.
  """
  try:
    family = families.build(config.model)
    for init in (family.init, family.init_tokenizer):
      jax.eval_shape(init, jax.random.key(0))
  except (ValueError, TypeError) as error:
    raise UserError(f'config.model: {error}') from error
  pieces = _validate_mesh(config)
  elsewhere = _validate_pretrained(config)
  prompted = 'prompts' in config.data
  if prompted:
    try:
      _validate_prompts(config, family)
    except ValueError as error:
      raise UserError(f'config.{error}') from error
  for position, name in enumerate(config.stages):
    if name not in config:
      raise UserError(
        f'config.stages names {name!r}, but config.{name} does not exist'
      )
    try:
      before = (*elsewhere, *config.stages[:position])
      _validate_stage(
        config[name],
        family,
        before,
        tuple(rewards.RELEASED) if prompted else before,
        pieces,
      )
    except ValueError as error:
      raise UserError(f'config.{name}: {error}') from error
  try:
    _validate_sampling(config, family)
    if family.reads_text and not prompted:
      _validate_scenes(config, family)
  except ValueError as error:
    raise UserError(f'config.{error}') from error


def _validate_mesh(config: ml_collections.ConfigDict) -> int:
  """Into how many pieces a batch is split."""
  mesh = config.get(SPREAD)
  try:
    if mesh is not None:
      _choice('frozen', mesh.frozen, sharding.FROZEN)
    sizes = sharding.mesh_shape(mesh, jax.device_count())
  except ValueError as error:
    raise UserError(f'config.mesh: {error}') from error
  return sizes['data'] * sizes['fsdp']


def _validate_pretrained(config: ml_collections.ConfigDict) -> tuple[str, ...]:
  """Names of the stages whose parameters come from elsewhere."""
  if 'pretrained' not in config:
    return ()
  try:
    _choice('config.weights', config.weights, pretrained.WEIGHTS)
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
  _choice('kind', stage.kind, KINDS)
  if stage.kind == 'tokenizer' and family.tokenizer.reads_text:
    raise ValueError(
      'a tokenizer whose decoder reads text is not trained here; take it from '
      'config.pretrained.tokenizer'
    )
  for name in ('steps', 'batch_size'):
    if stage[name] < 1:
      raise ValueError(f'{name}={stage[name]} must be at least 1')
  accumulation = stage.get('accumulation', 1)
  if accumulation < 1:
    raise ValueError(f'accumulation={accumulation} must be at least 1')
  sharding.check_batch('batch_size', stage.batch_size, pieces, accumulation)
  _validate_optimizer('optimizer', stage.optimizer)
  _between('ema_decay', stage.ema_decay, 0, 1)
  if stage.kind == 'teacher':
    _choice('mask_schedule', stage.mask_schedule, masking.SCHEDULES)
  if stage.kind == 'preference':
    _choice('start', stage.start, earlier)
    _choice('teacher', 'teacher', earlier)
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
  _choice('start', stage.start, earlier)
  _choice('frozen_dtype', stage.frozen_dtype, optim.DTYPES)
  _choice('mask.schedule', stage.mask.schedule, masking.SCHEDULES)
  _choice(
    'divergence.reduction', stage.divergence.reduction, divergence.REDUCTIONS
  )
  _divisor(
    'divergence.chunk',
    stage.divergence.chunk,
    ('positions', family.token_shape[0]),
  )
  for name, value in (
    ('init.mask_ratio', stage.init.mask_ratio),
    ('init.noise_scale', stage.init.noise_scale),
    ('gan.max_mask_ratio', stage.gan.max_mask_ratio),
  ):
    _between(name, value, 0, 1)
  _validate_optimizer('auxiliary.optimizer', stage.auxiliary.optimizer)
  weights = [stage[x].weight for x in ('divergence', 'gan', 'reward')]
  if max(weights) <= 0:
    raise ValueError(
      'divergence.weight, gan.weight and reward.weight are all 0: there is '
      'nothing to train the generator with'
    )
  gan = stage.gan
  if gan.weight > 0:
    _choice('gan.loss', gan.loss, adversarial.ADVERSARIES)
    _choice('gan.relaxation', gan.relaxation, RELAXATIONS)
    _choice('gan.fakes', gan.fakes, ('soft', 'hard'))
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
  _choice('reward.relaxation', reward.relaxation, RELAXATIONS)
  _divisor(
    'reward.micro_batch', reward.micro_batch, ('samples of a batch', batch)
  )
  if reward.micro_batch:
    sharding.check_batch('reward.micro_batch', reward.micro_batch, pieces)
  if not used_terms(reward):
    raise ValueError('reward.terms gives no reward a weight: name some')
  for name in reward.terms:
    _choice('reward.terms', name, rewarding)


def _validate_prompts(
  config: ml_collections.ConfigDict, family: Family
) -> None:
  """What only text to image from encoded prompts has."""
  if not family.reads_text:
    raise ValueError('data.prompts: the generator of config.model reads labels')
  prompt, rows = config.model.prompt, family.text.vocab_size
  _choice('model.prompt.clean', prompt.clean, text_tokens.CLEANINGS)
  _between('model.prompt.pad_id', prompt.pad_id, 0, rows - 1)
  for name in set(config.stages) & set(config):
    stage = config[name]
    if stage.kind != 'distill':
      raise ValueError(
        f'{name}.kind={stage.kind!r} needs images; prompts alone train '
        "'distill'"
      )
    if stage.gan.weight > 0:
      raise ValueError(
        f'{name}.gan.weight={stage.gan.weight}: the GAN needs the tokens of '
        'real images, which a prompt cache does not hold; set it to 0'
      )
  if not any(config.tteo.terms.values()):
    raise ValueError('tteo.terms gives no reward a weight: name some')
  for name in config.tteo.terms:
    _choice('tteo.terms', name, tuple(rewards.RELEASED))
  _between('tteo.batch_size', config.tteo.batch_size, 1, math.inf)


def _validate_scenes(config: ml_collections.ConfigDict, family: Family) -> None:
  """What only text to image from scenes has: readers of prompts, rewards."""
  world, size = shapes.World(**config.data.world), family.image_shape[0]
  if world.size != size:
    raise ValueError(
      f'data.world: scenes have {world.size} pixels a side, images of '
      f'config.model {size}'
    )
  for name, least in (
    ('vocab_size', vocabulary.SIZE),
    ('length', vocabulary.MAX_LENGTH),
  ):
    if config.model.text[name] < least:
      raise ValueError(
        f'model.text.{name}={config.model.text[name]} must be at least {least}'
      )
  trained = tuple(x for x in config.stages if config[x].kind in _REWARDS)
  _choice('data.text_stage', config.data.text_stage, trained)
  for name in config.tteo.terms:
    _choice('tteo.terms', name, trained)
  students = tuple(x for x in config.stages if config[x].kind == 'distill')
  for name in config.evaluation.tteo.stages:
    _choice('evaluation.tteo.stages', name, students)
  tower = config.image_tower
  if tower.resolution % tower.patch:  # Released ones may leave pixels out.
    raise ValueError(
      f'image_tower: images of {tower.resolution} pixels a side do not divide '
      f'into patches of {tower.patch}'
    )
  try:
    jax.eval_shape(
      families.build_clip(tower, family).init,
      jax.random.key(0),
      jnp.zeros((1, *[tower.resolution] * 2, 3)),
      jnp.zeros((1, vocabulary.MAX_LENGTH), jnp.int32),
    )
  except (TypeError, ValueError) as error:
    raise ValueError(f'image_tower: {error}') from error


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
  _choice(f'{name}.decay', config.decay, optim.DECAYS)
  _choice(f'{name}.moment_dtype', config.moment_dtype, optim.DTYPES)
  if config.learning_rate <= 0:
    raise ValueError(
      f'{name}.learning_rate={config.learning_rate} must be positive'
    )


def _choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
  if value not in allowed:
    raise ValueError(f'{name}={value!r} is unknown; choose one of {allowed}')


def _divisor(name: str, value: int, whole: tuple[str, int]) -> None:
  what, count = whole
  if value < 0 or (value and count % value):
    raise ValueError(
      f'{name}={value} must divide the {count} {what}, or be 0 for all at once'
    )


def _between(name: str, value: float, low: float, high: float) -> None:
  if not low <= value <= high:
    raise ValueError(f'{name}={value} must lie in [{low}, {high}]')
