"""The step of a stage with the shapes of all it reads; nothing is loaded."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from softdimo_jax import reward as scoring
from softdimo_jax.data.shapes import vocabulary
from softdimo_jax.errors import UserError
from softdimo_jax.family import Family
from softdimo_jax.pipeline import Run
from softdimo_jax.training import distill, teacher, tokenizer
from softdimo_jax.training.critic import used_terms
from softdimo_jax.training.loop import StepFn
from softdimo_jax.training.state import Frozen, TrainState, with_dtype

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
  distiller = distill.Distiller.create(family, config, modules)
  params = jax.eval_shape(family.init, jax.random.key(0))
  read = lambda params: with_dtype(params, config.frozen_dtype)
  frozen = Frozen(
    teacher=jax.eval_shape(lambda x: read(family.stored(x)), params),
    null=_condition(family, 1) if family.reads_text else None,
  )
  batch = {}
  if config.gan.weight > 0 or family.reads_text:
    batch = _tokens(family, config.batch_size)
  if rewarded:
    frozen = frozen.replace(
      tokenizer=jax.eval_shape(
        lambda key: read(family.init_decoder(key)), jax.random.key(0)
      ),
      rewards={name: _reward(modules[name]) for name in rewarded},
    )
    ids = (config.batch_size, vocabulary.MAX_LENGTH)
    batch['caption'] = jax.ShapeDtypeStruct(ids, jnp.int32)
  return Program(
    step=distiller.step,
    state=jax.eval_shape(distiller.init, jax.random.key(0), params, params),
    frozen=frozen,
    batch=batch,
  )


def _tokens(family: Family, batch: int) -> dict[str, Shapes]:
  tokens = jax.ShapeDtypeStruct((batch, *family.token_shape), jnp.int32)
  name = 'text' if family.reads_text else 'label'
  return {'tokens': tokens, name: _condition(family, batch)}


def _condition(family: Family, batch: int) -> Shapes:
  if not family.reads_text:
    return jax.ShapeDtypeStruct((batch,), jnp.int32)
  return jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct((batch, *leaf.shape[1:]), leaf.dtype),
    family.generator.condition_shape(),
  )


def _reward(reward: scoring.CLIPReward) -> Shapes:
  """Parameters of a reward that compares an image with a prompt."""
  image = jax.ShapeDtypeStruct((1, 256, 256, 3), jnp.float32)
  ids = jax.ShapeDtypeStruct((1, vocabulary.MAX_LENGTH), jnp.int32)
  init = lambda image, ids: reward.module.init(
    jax.random.key(0), reward.transform(image), ids
  )
  return jax.eval_shape(init, image, ids)['params']


_PROGRAMS: dict[str, Callable[[Run, ml_collections.ConfigDict], Program]] = {
  'tokenizer': _tokenizer,
  'teacher': _teacher,
  'distill': _distill,
}
