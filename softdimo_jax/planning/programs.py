"""The step of a stage with the shapes of all it reads; nothing is loaded."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from softdimo_jax.data.shapes import vocabulary
from softdimo_jax.errors import UserError
from softdimo_jax.experiment.run import Run
from softdimo_jax.families.family import Family
from softdimo_jax.rewards import scoring
from softdimo_jax.training import teacher, tokenizer
from softdimo_jax.training.distill.reward_term import used_terms
from softdimo_jax.training.distill.step import Distiller
from softdimo_jax.training.loop import StepFn
from softdimo_jax.training.state import Frozen, TrainState

Shapes = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
  """What the loop would compile.

  Attributes:
    step: of the stage.
    state: shapes of its state.
    frozen: shapes of what it only reads, or None.
    batch: shapes of a global batch.
  """

  step: StepFn
  state: TrainState
  frozen: Shapes
  batch: Shapes


def program(run: Run, stage: str) -> Program:
  """The step of a stage of kind tokenizer, teacher or distill.

  Raises:
    UserError: for a stage that does not exist, or is of another kind.
  """
  kind = run.config[stage].kind if stage in run.config else None
  if kind not in _PROGRAMS:
    planned = [
      name
      for name in (*run.config.stages, *run.config.get('pretrained', ()))
      if run.config[name].kind in _PROGRAMS
    ]
    raise UserError(
      f'--stage={stage} cannot be planned; choose one of '
      f'{", ".join(dict.fromkeys(planned))}'
    )
  return _PROGRAMS[kind](run, run.config[stage])


def _tokenizer(run: Run, config: ml_collections.ConfigDict) -> Program:
  trainer = tokenizer.trainer(run.family.tokenizer, config)
  init = lambda key: trainer.init(run.family.init_tokenizer(key))
  shape = (config.batch_size, *run.family.image_shape)
  return Program(
    step=trainer.step,
    state=jax.eval_shape(init, jax.random.key(0)),
    frozen=None,
    batch={'image': jax.ShapeDtypeStruct(shape, jnp.float32)},
  )


def _teacher(run: Run, config: ml_collections.ConfigDict) -> Program:
  trainer = teacher.trainer(run.family, config)
  init = lambda key: trainer.init(run.family.init(key))
  return Program(
    step=trainer.step,
    state=jax.eval_shape(init, jax.random.key(0)),
    frozen=_condition(run.family, 1) if run.family.reads_text else None,
    batch=_tokens(run.family, config.batch_size),
  )


def _distill(run: Run, config: ml_collections.ConfigDict) -> Program:
  family, rewarded = run.family, used_terms(config.reward)
  modules = run.rewards(rewarded)
  distiller = Distiller.create(family, config, modules)
  key = jax.random.key(0)
  params = jax.eval_shape(family.init, key)
  null = _condition(family, 1) if family.reads_text else None
  batch, decoder, scores = {}, None, {}
  if config.gan.weight > 0 or family.reads_text:
    batch = _tokens(family, config.batch_size)
  if rewarded:
    prompt_ids = _prompt_ids(run, rewarded, config.batch_size)
    batch['prompt_ids'] = prompt_ids
    ids = prompt_ids if isinstance(prompt_ids, dict) else {}
    decoder = lambda: family.init_decoder(key)
    scores = {
      name: _reward(modules[name], ids.get(name, prompt_ids))
      for name in rewarded
    }

  def freeze(params: Shapes, null: Shapes, scores: Shapes) -> Frozen:
    rewards = {name: lambda x=x: x for name, x in scores.items()}
    return Frozen.read(
      family,
      config.frozen_dtype,
      teacher=lambda: params,
      null=null,
      tokenizer=decoder,
      rewards=rewards,
    )

  frozen = jax.eval_shape(freeze, params, null, scores)
  return Program(
    step=distiller.step,
    state=jax.eval_shape(distiller.init, key, params, params),
    frozen=frozen,
    batch=batch,
  )


def _tokens(family: Family, batch: int) -> dict[str, Shapes]:
  """Of real images and their condition; a step drops what it does not read."""
  tokens = jax.ShapeDtypeStruct((batch, *family.token_shape), jnp.int32)
  name = 'text' if family.reads_text else 'label'
  return {'tokens': tokens, name: _condition(family, batch)}


def _condition(family: Family, batch: int) -> Shapes:
  if not family.reads_text:
    return jax.ShapeDtypeStruct((batch,), jnp.int32)
  ids = jax.ShapeDtypeStruct((batch, family.text.length), jnp.int32)
  encode = lambda key, ids: family.encode_text(
    family.text.init(key, ids)['params'], ids
  )
  return jax.eval_shape(encode, jax.random.key(0), ids)


def _prompt_ids(run: Run, rewarded: tuple[str, ...], batch: int) -> Shapes:
  """Token ids of prompts, by reward where released ones read them."""
  ids = lambda length: jax.ShapeDtypeStruct((batch, length), jnp.int32)
  if not run.reads_prompts:
    return ids(vocabulary.MAX_LENGTH)
  prompt_ids = run.prompted.prompt_ids([''], rewarded)
  return {name: ids(array.shape[1]) for name, array in prompt_ids.items()}


def _reward(reward: scoring.Reward, ids: Shapes) -> Shapes:
  """Parameters of a reward that reads such ids."""
  key = jax.random.key(0)
  image = jax.eval_shape(
    reward.transform, jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
  )
  init = lambda module, *inputs: jax.eval_shape(module.init, key, *inputs)[
    'params'
  ]
  if isinstance(reward, scoring.AestheticReward):
    width = reward.image.projection_width
    features = jax.ShapeDtypeStruct((1, width), jnp.float32)
    return {
      'image': init(reward.image, image),
      'head': init(reward.head, features),
    }
  one = jax.ShapeDtypeStruct((1, *ids.shape[1:]), ids.dtype)
  if isinstance(reward, scoring.ImageReward):
    mask = jax.ShapeDtypeStruct(one.shape, jnp.bool_)
    return init(reward.module, image, one, mask)
  return init(reward.module, image, one)


_PROGRAMS: dict[str, Callable[[Run, ml_collections.ConfigDict], Program]] = {
  'tokenizer': _tokenizer,
  'teacher': _teacher,
  'distill': _distill,
}
