"""Images of a run by number: the same ones for export and for evaluation."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from softdimo_jax.data.cache.records import module_facts
from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.sets.images import ImageSet
from softdimo_jax.evaluation.sets.pictures import to_uint8
from softdimo_jax.experiment.reports import rows
from softdimo_jax.experiment.run import Run
from softdimo_jax.networks.generators.condition import Condition
from softdimo_jax.types import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
  """What a set of N images is to show.

  Attributes:
    names: of M labels or prompts.
    take: int [n] of the M -> their condition, arrays of the host [n, ...].
    prompt_ids: of prompts as rewards read them, likewise; None for labels.
    order: int [N], which of the M every image shows.
  """

  names: tuple[str, ...]
  take: Callable[[np.ndarray], Condition]
  prompt_ids: Any
  order: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
  """A way to make images.

  Attributes:
    title: how rows call the stage that is used so.
    options: JSON values that it depends on.
    make: (params, tokenizer, key, condition, prompt_ids) -> images float32
      [N, H, W, C] in [0, 1].
    place: brings parameters to where `make` wants them.
  """

  title: str
  options: Mapping[str, Any]
  make: Callable[[Params, Params, jax.Array, Condition, Any], np.ndarray]
  place: Callable[[Params], Params]


def sampled(
  run: Run, stage: str, batch_size: int, options: Mapping[str, float | None]
) -> Method:
  """By the sampler of a stage.

  Args:
    run: workdir and configuration.
    stage: generator.
    batch_size: of a compiled call.
    options: of `results.sampler`; what is None follows the configuration.

  Raises:
    UserError: for a number of steps that the plan does not have.
  """
  try:
    sampler = rows.sampler(run, stage, batch_size, **options)
  except ValueError as error:
    raise UserError(str(error)) from error
  told = {
    name: run.config.sampling.get(name) if value is None else value
    for name, value in options.items()
  }
  if run.config[stage].kind != 'teacher':
    told = {'temperature': told['temperature']}
  return Method(
    title=stage,
    options=told | {'batch_size': sampler.batch_size},
    make=lambda params, tokenizer, key, condition, prompt_ids: sampler(
      params, tokenizer, key, condition
    )[1],
    place=sampler.place,
  )


def chosen_by_rewards(
  run: Run, stage: str, *, starts: int, steps: int
) -> Method:
  """Best of N by the run's rewards, with test-time optimisation if steps > 0.

  Not to be confused with an oracle, which the judge itself chooses.

  Raises:
    UserError: if the run has no rewards, or the stage is no student.
  """
  if run.config[stage].kind != 'distill' or 'tteo' not in run.config:
    raise UserError(
      'best of N is chosen by the rewards of config.tteo, of a distilled stage'
    )
  optimizer = rows.test_time_optimizer(run, stage, starts=starts, steps=steps)
  rewards = optimizer.place(run.reward_params(optimizer.terms))
  by = ', '.join(optimizer.terms)
  title = f'{stage}, best of {starts} by {by}'
  return Method(
    title=f'{title}, {steps} steps of TTEO' if steps else title,
    options={
      'best_of': starts,
      'tteo_steps': steps,
      'learning_rate': optimizer.learning_rate,
      'rewards': dict(optimizer.terms),
      'temperature': optimizer.temperature,
    },
    make=lambda params, tokenizer, key, condition, prompt_ids: (
      optimizer(params, tokenizer, rewards, key, condition, prompt_ids).images
    ),
    place=optimizer.place,
  )


class RunImages(ImageSet):
  """Images made range by range.

  A range is a function of its beginning, its length and the seed, whatever
  else has been made before.
  """

  def __init__(
    self, run: Run, stage: str, method: Method, wanted: Wanted, seed: int
  ):
    """Loads and places the parameters.

    Args:
      run: whose stage it is.
      stage: generator.
      method: how.
      wanted: what.
      seed: of the samples.
    """
    self._method, self._wanted = method, wanted
    self._key = jax.random.key(seed)
    self._size = run.family.image_shape[:2]
    params, tokenizer = run.params(stage), run.params('tokenizer')
    self._facts = {
      'kind': 'generated',
      'workdir': str(run.workdir),
      'config_sha256': _digest(run.config.to_dict()),
      'stage': stage,
      'generator': module_facts(run.family.generator, params),
      'tokenizer': module_facts(run.family.tokenizer, tokenizer),
      'sampler': dict(method.options),
      'conditions': {
        'number': len(wanted.names),
        'sha256': _digest([list(wanted.names), wanted.order.tolist()]),
      },
      'seed': seed,
    }
    self._params = method.place(params), method.place(tokenizer)

  def __len__(self) -> int:
    return len(self._wanted.order)

  @property
  def facts(self) -> dict[str, Any]:
    return self._facts

  def floats(self, start: int, stop: int) -> np.ndarray:
    """float32 [stop - start, H, W, C] in [0, 1]."""
    chosen = self._wanted.order[start:stop]
    condition = self._wanted.take(chosen)
    prompt_ids = jax.tree.map(
      lambda array: array[chosen], self._wanted.prompt_ids
    )
    key = jax.random.fold_in(self._key, start)
    return self._method.make(*self._params, key, condition, prompt_ids)

  def read(self, start: int, stop: int) -> list[np.ndarray]:
    images = to_uint8(self.floats(start, stop))
    return list(np.broadcast_to(images, (*images.shape[:3], 3)))

  def name(self, index: int) -> str:
    return f'image {index} of {self._prompt(index)!r}'

  def size(self) -> tuple[int, int]:
    return self._size

  def prompts(self) -> list[str]:
    """What every image was asked to show."""
    return [self._prompt(index) for index in range(len(self))]

  def _prompt(self, index: int) -> str:
    return self._wanted.names[self._wanted.order[index]]


def _digest(value: Any) -> str:
  return hashlib.sha256(json.dumps(value).encode()).hexdigest()
