"""The stages of a run in order: what each trains, and on what.

A stage that has left its parameters is done and never trained again.
"""

import functools
from collections.abc import Callable, Mapping

import grain
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from absl import logging

from softdimo_jax.data import batches
from softdimo_jax.data.images import streams
from softdimo_jax.experiment.run import Run
from softdimo_jax.families.family import Family
from softdimo_jax.generation.sampler import Sampler
from softdimo_jax.generation.tokens import multi_step_tokens
from softdimo_jax.runtime import sharding
from softdimo_jax.runtime.preemption import PreemptionNotice
from softdimo_jax.training import (
  classifier,
  loop,
  reward_models,
  teacher,
  tokenizer,
)
from softdimo_jax.training.distill.reward_term import used_terms
from softdimo_jax.training.distill.step import Distiller
from softdimo_jax.training.state import Frozen
from softdimo_jax.types import Batch

# Images whose made-up tokens stand for a token cache with weights by rule.
_MADE_UP = 1024
# Losers of a preference that are drawn at a time.
_DRAWN = 512


def train(run: Run, mesh: jax.sharding.Mesh, notice: PreemptionNotice) -> None:
  """Runs the stages that are not done, in order.

  Args:
    run: workdir and configuration.
    mesh: devices.
    notice: where signals arrive.

  Raises:
    Preempted: after saving, if a signal came.
    UserError: for corrupt files or a diverged stage.
  """
  options = loop.LoopOptions(**run.config.loop, split_frozen=run.splits_frozen)
  for name in run.config.stages:
    notice.check()
    if run.done(name):
      logging.info('stage %s is done', name)
      continue
    run.folder(name).mkdir(parents=True, exist_ok=True)
    stage = _STAGES[run.config[name].kind](run, name)
    # Without a name for the state, which the next stage has no room for.
    run.export(name, loop.run(stage, run.folder(name), mesh, options, notice))


def _keys(run: Run, name: str) -> tuple[jax.Array, jax.Array]:
  """(key of the initial parameters, key of the steps)."""
  init_key, step_key = jax.random.split(jax.random.key(run.seed(name)))
  return init_key, step_key


def _rows(run: Run, name: str) -> np.ndarray | None:
  """Rows of the stage's batches that this process reads; None is all."""
  return sharding.process_rows(run.mesh, run.config[name].batch_size)


def _arrays(
  run: Run, name: str, arrays: Mapping[str, np.ndarray]
) -> grain.DatasetIterator:
  size = run.config[name].batch_size
  return batches.shuffled_batches(
    arrays, size, run.seed(name), _rows(run, name)
  )


def _gathered(
  run: Run, name: str, count: int, gather: Callable[[np.ndarray], Batch]
) -> grain.DatasetIterator:
  size = run.config[name].batch_size
  return batches.gathered_batches(
    count, gather, size, run.seed(name), _rows(run, name)
  )


def _images(run: Run, name: str) -> grain.DatasetIterator:
  """Batches of `image`, and of `label` where there are classes."""
  if run.family.reads_text:
    return _gathered(run, name, len(run.scenes), run.scenes.gather)
  if not run.streams:
    split = run.images[0]
    return _arrays(run, name, {'image': split.images, 'label': split.labels})
  return streams.image_batches(
    run.source,
    run.config[name].batch_size,
    run.seed(name),
    run.family.image_shape[0],
    run.config.data.augment,
    rows=_rows(run, name),
  )


def _tokens(run: Run, name: str) -> grain.DatasetIterator:
  """Batches of `tokens` and the generator's condition."""
  if run.reads_prompts:
    config = run.config[name]
    return run.prompted.batches(
      config.batch_size,
      run.seed(name),
      used_terms(config.reward),
      _rows(run, name),
    )
  if run.family.reads_text:
    features = run.text_features(run.captioned.unique_prompt_ids)
    return _gathered(
      run,
      name,
      len(run.captioned),
      lambda index: run.captioned.gather_with_text(index, features),
    )
  if not run.streams:
    labels = run.images[0].labels
    return _arrays(run, name, {'tokens': run.tokens, 'label': labels})
  if run.config.weights == 'rule':
    return _arrays(run, name, _made_up_tokens(run.family))
  return run.token_cache.batches(
    run.config[name].batch_size, run.seed(name), _rows(run, name)
  )


def _made_up_tokens(family: Family) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  shape = (_MADE_UP, *family.token_shape)
  return {
    'tokens': rng.integers(family.vocab_size, size=shape, dtype=np.int32),
    'label': rng.integers(family.null_label, size=_MADE_UP, dtype=np.int32),
  }


def _classifier_stage(run: Run, name: str) -> loop.Stage:
  config, example = run.config[name], run.images[0].images[:1]
  trainer = classifier.trainer(run.classifier, config)
  init_key, step_key = _keys(run, name)
  return loop.Stage(
    name=name,
    steps=config.steps,
    step=trainer.step,
    init=lambda key: trainer.init(run.classifier.init(key, example)['params']),
    start=lambda: init_key,
    frozen=lambda: None,
    iterator=_images(run, name),
    key=step_key,
    headline=('cross_entropy', 'accuracy'),
  )


def _tokenizer_stage(run: Run, name: str) -> loop.Stage:
  config = run.config[name]
  trainer = tokenizer.trainer(run.family.tokenizer, config)
  init_key, step_key = _keys(run, name)
  return loop.Stage(
    name=name,
    steps=config.steps,
    step=trainer.step,
    init=lambda key: trainer.init(run.family.init_tokenizer(key)),
    start=lambda: init_key,
    frozen=lambda: None,
    iterator=_images(run, name),
    key=step_key,
    headline=('reconstruction',),
  )


def _teacher_stage(run: Run, name: str) -> loop.Stage:
  config = run.config[name]
  trainer = teacher.trainer(run.family, config)
  init_key, step_key = _keys(run, name)
  return loop.Stage(
    name=name,
    steps=config.steps,
    step=trainer.step,
    init=lambda key: trainer.init(run.family.init(key)),
    start=lambda: init_key,
    frozen=lambda: run.null_condition,
    iterator=_tokens(run, name),
    key=step_key,
    headline=('cross_entropy', 'masked_accuracy'),
  )


def _distill_stage(run: Run, name: str) -> loop.Stage:
  config, start = run.config[name], run.config[name].start
  distiller = Distiller.create(
    run.family, config, run.rewards(used_terms(config.reward))
  )
  init_key, step_key = _keys(run, name)
  role = 'auxiliary' if run.config[start].kind == 'distill' else 'model'
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
    iterator=_tokens(run, name) if reads_data else None,
    key=step_key,
    headline=headline,
  )


def _frozen(run: Run, config: ml_collections.ConfigDict) -> Frozen:
  read = functools.partial(
    Frozen.read,
    run.family,
    config.frozen_dtype,
    teacher=lambda: run.params('teacher'),
    null=run.null_condition,
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
  config, (reward, module) = run.config[name], (run.clip_reward, run.clip)
  trainer = reward_models.contrastive_trainer(run.family, reward, config)
  init_key, step_key = _keys(run, name)
  image = jnp.zeros((1, *run.family.image_shape))
  ids = jnp.asarray(run.captioned.prompt_ids[:1])
  return loop.Stage(
    name=name,
    steps=config.steps,
    step=trainer.step,
    init=lambda key: trainer.init(
      module.init(key, reward.transform(image), ids)['params']
    ),
    start=lambda: init_key,
    frozen=lambda: run.params('tokenizer'),
    iterator=_gathered(run, name, len(run.captioned), run.captioned.gather),
    key=step_key,
    headline=('contrastive', 'accuracy'),
  )


def _preference_stage(run: Run, name: str) -> loop.Stage:
  config = run.config[name]
  trainer = reward_models.preference_trainer(
    run.family, run.scaled_clip_reward, config
  )
  _, step_key = _keys(run, name)
  return loop.Stage(
    name=name,
    steps=config.steps,
    step=trainer.step,
    init=trainer.init,
    start=lambda: run.params(config.start),
    frozen=lambda: run.params('tokenizer'),
    iterator=_arrays(run, name, _preferences(run, name)),
    key=step_key,
    headline=('preference', 'accuracy'),
  )


def _preferences(run: Run, name: str) -> dict[str, np.ndarray]:
  """Real tokens, their prompts, and losers that others drew for these."""
  config, data = run.config[name], run.captioned
  seed = run.seed(name)
  rng = np.random.default_rng(seed)
  index = rng.choice(len(data), min(config.num_examples, len(data)), False)
  text = run.text_features(data.prompt_ids[index])
  params, null = run.params('teacher'), run.null_condition
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
    tokens, _ = sampler(
      params, run.params('tokenizer'), jax.random.key(seed), text
    )
    losers.append(tokens)
  return {
    'tokens': data.tokens[index],
    'prompt_ids': data.prompt_ids[index],
    'losers': np.stack(losers, axis=1),
  }


_STAGES = {
  'classifier': _classifier_stage,
  'tokenizer': _tokenizer_stage,
  'teacher': _teacher_stage,
  'distill': _distill_stage,
  'contrastive': _contrastive_stage,
  'preference': _preference_stage,
}
