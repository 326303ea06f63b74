"""The stages of a run: what each kind trains, and on which data.

A stage with stored parameters is done; see `branching`.
"""

import functools
from collections.abc import Callable

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging

from softdimo_jax.errors import UserError
from softdimo_jax.experiment import curves, healing, records, replaced
from softdimo_jax.experiment.couplings import couplings
from softdimo_jax.experiment.inputs import LabelsInMemory, Scenes
from softdimo_jax.experiment.run import Run
from softdimo_jax.generation.sampler import Sampler
from softdimo_jax.generation.tokens import multi_step_tokens
from softdimo_jax.method import sampling
from softdimo_jax.runtime import distributed
from softdimo_jax.runtime.preemption import PreemptionNotice
from softdimo_jax.training import (
  classifier,
  loop,
  rectify,
  reward_models,
  teacher,
  tokenizer,
)
from softdimo_jax.training.distill import noise
from softdimo_jax.training.distill.reward_term import used_terms
from softdimo_jax.training.distill.step import Distiller
from softdimo_jax.training.state import Frozen
from softdimo_jax.training.supervised import SupervisedTrainer
from softdimo_jax.types import Params

# Batch size when the losers of a preference are sampled.
_DRAWN = 512


def train(run: Run, mesh: jax.sharding.Mesh, notice: PreemptionNotice) -> None:
  """Trains the unfinished stages in order.

  Args:
    run: workdir and configuration.
    mesh: training devices.
    notice: notice of signals.

  Raises:
    Preempted: after a signal, once the state is saved.
    UserError: for corrupt files or a diverged stage.
  """
  options = loop.LoopOptions(
    **run.config.loop,
    split_frozen=run.splits_frozen,
    evaluate_every=curves.every(run.config),
  )
  known = records.records(run.config)
  for name in run.config.stages:
    notice.check()
    distributed.alone(lambda name=name: healing.heal(run, name))
    if run.done(name):
      logging.info('stage %s is done', name)
      continue
    run.folder(name).mkdir(parents=True, exist_ok=True)
    if distributed.is_primary():
      records.write(run.folder(name), known[name])
      replaced.note(run.folder(name), run.config, name)
    stage = noise.watched(build(run, name), run.family, run.config[name])
    # Bind no name to the state: it must be freed before the next stage.
    run.export(name, loop.run(stage, run.folder(name), mesh, options, notice))


def build(run: Run, name: str) -> loop.Stage:
  """A stage for the training loop; data and parameters are read on demand.

  Args:
    run: workdir and configuration.
    name: name of the stage.
  """
  return _STAGES[run.config[name].kind](run, name)


def _keys(run: Run, name: str) -> tuple[jax.Array, jax.Array]:
  """(key of the initial parameters, base key of the steps)."""
  init_key, step_key = jax.random.split(jax.random.key(run.seed(name)))
  return init_key, step_key


def _images(run: Run, name: str) -> grain.DatasetIterator:
  return run.inputs.images(run.draw(name))


def _tokens(run: Run, name: str) -> grain.DatasetIterator:
  config = run.config[name]
  rewards = used_terms(config.reward) if config.kind == 'distill' else ()
  return run.inputs.tokens(run.draw(name), rewards)


def _scenes(run: Run, name: str) -> Scenes:
  if not isinstance(run.inputs, Scenes):
    raise UserError(f'stage {name} trains only on rendered scenes')
  return run.inputs


def _supervised(
  run: Run,
  name: str,
  trainer: SupervisedTrainer,
  init: Callable[[jax.Array], Params],
  batches: Callable[[Run, str], grain.DatasetIterator],
  headline: tuple[str, ...],
  frozen: Callable[[], Params | None] = lambda: None,
) -> loop.Stage:
  """A stage whose network is randomly initialised."""
  init_key, step_key = _keys(run, name)
  return loop.Stage(
    name=name,
    steps=run.config[name].steps,
    step=trainer.step,
    init=lambda key: trainer.init(init(key)),
    start=lambda: init_key,
    frozen=frozen,
    batches=lambda: batches(run, name),
    key=step_key,
    headline=headline,
  )


def _classifier_stage(run: Run, name: str) -> loop.Stage:
  if not isinstance(run.inputs, LabelsInMemory):
    raise UserError(f'stage {name} trains only on images in memory')
  module, example = run.inputs.classifier, _example(run)
  return _supervised(
    run,
    name,
    classifier.trainer(module, run.config[name]),
    lambda key: module.init(key, example)['params'],
    _images,
    ('cross_entropy', 'accuracy'),
  )


def _example(run: Run) -> jax.Array:
  return jnp.zeros((1, *run.family.image_shape))


def _tokenizer_stage(run: Run, name: str) -> loop.Stage:
  trainer = tokenizer.trainer(run.family.tokenizer, run.config[name])
  init = run.family.init_tokenizer
  return _supervised(run, name, trainer, init, _images, ('reconstruction',))


def _teacher_stage(run: Run, name: str) -> loop.Stage:
  return _supervised(
    run,
    name,
    teacher.trainer(run.family, run.config[name]),
    run.family.init,
    _tokens,
    ('cross_entropy', 'masked_accuracy'),
    frozen=lambda: run.null,
  )


def _distill_stage(run: Run, name: str) -> loop.Stage:
  config, start = run.config[name], run.config[name].start
  distiller = Distiller.create(
    run.family, config, run.inputs.rewards(used_terms(config.reward))
  )
  init_key, step_key = _keys(run, name)
  role = 'model' if run.config[start].kind == 'teacher' else 'auxiliary'
  headline = ('student/max_probability',)
  if config.divergence.weight > 0:
    headline += ('dimo/discrepancy', 'auxiliary/cross_entropy')
  if config.gan.weight > 0:
    headline += ('gan/discriminator_accuracy',)
  if config.reward.weight > 0:
    headline += ('reward/total',)
  reads_data = run.family.reads_text or config.gan.weight > 0
  return loop.Stage(
    name=name,
    steps=config.steps,
    step=distiller.step,
    init=lambda start: distiller.init(*start),
    start=lambda: (init_key, run.params(start), run.params(start, role)),
    frozen=lambda: _frozen(run, config),
    batches=(lambda: _tokens(run, name)) if reads_data else None,
    key=step_key,
    headline=headline,
    evaluate=curves.evaluation(run, name),
  )


def _frozen(run: Run, config: ml_collections.ConfigDict) -> Frozen:
  read = functools.partial(
    Frozen.read,
    run.family,
    config.frozen_dtype,
    teacher=lambda: run.params('teacher'),
    null=run.null,
  )
  rewarded = used_terms(config.reward)
  if not rewarded:
    return read()
  return read(
    tokenizer=lambda: run.family.decoder_params(run.params('tokenizer')),
    rewards={
      name: lambda name=name: run.reward_params((name,))[name]
      for name in rewarded
    },
  )


def _contrastive_stage(run: Run, name: str) -> loop.Stage:
  scenes, family = _scenes(run, name), run.family
  reward, module = scenes.clip_reward, scenes.clip
  image = _example(run)
  ids = jnp.zeros((1, scenes.source.length), jnp.int32)

  def batches(run: Run, name: str) -> grain.DatasetIterator:
    data = scenes.captioned
    return run.draw(name).gathered(len(data), data.gather)

  return _supervised(
    run,
    name,
    reward_models.contrastive_trainer(family, reward, run.config[name]),
    lambda key: module.init(key, reward.transform(image), ids)['params'],
    batches,
    ('contrastive', 'accuracy'),
    frozen=lambda: run.params('tokenizer'),
  )


def _preference_stage(run: Run, name: str) -> loop.Stage:
  config, scenes = run.config[name], _scenes(run, name)
  trainer = reward_models.preference_trainer(
    run.family, scenes.scaled_clip_reward, config
  )
  _, step_key = _keys(run, name)
  return loop.Stage(
    name=name,
    steps=config.steps,
    step=trainer.step,
    init=trainer.init,
    start=lambda: run.params(config.start),
    frozen=lambda: run.params('tokenizer'),
    batches=lambda: run.draw(name).arrays(_preferences(run, scenes, name)),
    key=step_key,
    headline=('preference', 'accuracy'),
  )


def _preferences(run: Run, scenes: Scenes, name: str) -> dict[str, np.ndarray]:
  """`tokens` of real images, `prompt_ids`, and `losers` of the same prompts."""
  config, data = run.config[name], scenes.captioned
  seed = run.seed(name)
  rng = np.random.default_rng(seed)
  index = rng.choice(len(data), min(config.num_examples, len(data)), False)
  text = scenes.encode(data.prompt_ids[index])
  params, null = run.params('teacher'), scenes.null
  keys = sampling.image_keys(seed, len(index))
  losers = [data.wrong_tokens[index]]
  for steps in config.teacher_steps:
    options = run.config.sampling.copy_and_resolve_references()
    options.steps, options.guidance_scale = steps, config.guidance_scale
    sampler = Sampler(
      functools.partial(
        multi_step_tokens, run.family, options=options, null=null
      ),
      run.family,
      _DRAWN,
    )
    tokens, _ = sampler(params, run.params('tokenizer'), keys, text)
    losers.append(tokens)
  return {
    'tokens': data.tokens[index],
    'prompt_ids': data.prompt_ids[index],
    'losers': np.stack(losers, axis=1),
  }


def _rectify_stage(run: Run, name: str) -> loop.Stage:
  config, family = run.config[name], run.family
  trainer = rectify.trainer(family, config)

  def batches() -> grain.DatasetIterator:
    pairs = couplings(run, name)
    take = lambda index: jax.tree.map(lambda array: array[index], pairs)
    return run.draw(name).gathered(config.num_examples, take)

  return loop.Stage(
    name=name,
    steps=config.steps,
    step=trainer.step,
    init=trainer.init,
    start=lambda: family.split(run.params(config.start))[0],
    frozen=lambda: run.params('teacher'),
    batches=batches,
    key=_keys(run, name)[1],
    headline=('cross_entropy', 'accuracy'),
  )


_STAGES = {
  'classifier': _classifier_stage,
  'tokenizer': _tokenizer_stage,
  'teacher': _teacher_stage,
  'distill': _distill_stage,
  'contrastive': _contrastive_stage,
  'preference': _preference_stage,
  'rectify': _rectify_stage,
}
KINDS = tuple(_STAGES)
