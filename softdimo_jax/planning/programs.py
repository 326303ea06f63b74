"""The step of a stage with the shapes of its inputs; nothing is loaded.

`stages.build` defines the stage; parameters, text features and batches are
replaced by their shapes.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from softdimo_jax.errors import UserError
from softdimo_jax.experiment import pretrained, stages
from softdimo_jax.experiment.run import Run
from softdimo_jax.families.family import Family
from softdimo_jax.networks.generators.condition import TextCondition
from softdimo_jax.rewards import scoring
from softdimo_jax.training.distill.reward_term import used_terms
from softdimo_jax.training.loop import StepFn
from softdimo_jax.training.state import TrainState
from softdimo_jax.types import Params

Shapes = Any

# Kinds of stages that can be planned: those that run at full size.
_PLANNED = ('tokenizer', 'teacher', 'distill')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
  """A step that the training loop would compile.

  Attributes:
    step: step function of the stage.
    state: shapes of the train state.
    frozen: shapes of the frozen networks, or None.
    batch: shapes of a global batch.
  """

  step: StepFn
  state: TrainState
  frozen: Shapes
  batch: Shapes


def program(run: Run, name: str) -> Program:
  """The step of a stage of kind tokenizer, teacher or distill.

  Raises:
    UserError: for a stage that does not exist or is of another kind.
  """
  if name not in run.config or run.config[name].kind not in _PLANNED:
    planned = [
      stage
      for stage in (*run.config.stages, *run.config.get('pretrained', ()))
      if run.config[stage].kind in _PLANNED
    ]
    raise UserError(
      f'--stage={name} cannot be planned; choose one of '
      f'{", ".join(dict.fromkeys(planned))}'
    )
  shapes = _ShapesRun(run.workdir, run.config)
  stage = stages.build(shapes, name)
  return Program(
    step=stage.step,
    state=jax.eval_shape(lambda: stage.init(stage.start())),
    frozen=jax.eval_shape(stage.frozen),
    batch=_batch(shapes, name) if stage.batches else {},
  )


class _ShapesRun(Run):
  """A run whose parameters and text features are traced zeros."""

  def params(self, stage: str, role: str = 'model') -> Params:
    del role
    return _zeros(pretrained.expected(self.family, stage)[1])

  @property
  def null(self) -> TextCondition | None:
    return (
      _zeros(_condition(self.family, 1)) if self.family.reads_text else None
    )

  def reward_params(self, names: Iterable[str]) -> dict[str, Params]:
    rewards = self.inputs.rewards(names)
    ids = _prompt_ids(self, rewards, batch_size=1)
    return {
      name: _zeros(_reward(reward, ids[name] if isinstance(ids, dict) else ids))
      for name, reward in rewards.items()
    }


def _batch(run: Run, name: str) -> dict[str, Shapes]:
  """Shapes of all fields that a step may read."""
  config, family = run.config[name], run.family
  size = config.batch_size
  if config.kind == 'tokenizer':
    shape = (size, *family.image_shape)
    return {'image': jax.ShapeDtypeStruct(shape, jnp.float32)}
  tokens = jax.ShapeDtypeStruct((size, *family.token_shape), jnp.int32)
  condition = 'text' if family.reads_text else 'label'
  batch = {'tokens': tokens, condition: _condition(family, size)}
  rewards = used_terms(config.reward) if config.kind == 'distill' else {}
  if rewards:
    batch['prompt_ids'] = _prompt_ids(run, rewards, size)
  return batch


def _condition(family: Family, batch_size: int) -> Shapes:
  if not family.reads_text:
    return jax.ShapeDtypeStruct((batch_size,), jnp.int32)
  ids = jax.ShapeDtypeStruct((batch_size, family.text_tower.length), jnp.int32)
  encode = lambda key, ids: family.encode_text(
    family.text_tower.init(key, ids)['params'], ids
  )
  return jax.eval_shape(encode, jax.random.key(0), ids)


def _prompt_ids(run: Run, rewards: Iterable[str], batch_size: int) -> Shapes:
  """Shapes of prompt ids, by reward if the rewards read different ids."""
  shape = lambda ids: jax.ShapeDtypeStruct(
    (batch_size, *ids.shape[1:]), jnp.int32
  )
  return jax.tree.map(shape, run.inputs.prompt_ids([''], rewards))


def _zeros(shapes: Shapes) -> Params:
  return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def _reward(reward: Any, ids: Shapes) -> Shapes:
  """Shapes of the parameters of a reward that reads these ids."""
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
  if isinstance(reward, scoring.ImageReward):
    mask = jax.ShapeDtypeStruct(ids.shape, jnp.bool_)
    return init(reward.module, image, ids, mask)
  return init(reward.module, image, ids)
