"""Methods that generate images from a run; best-of-N has its own file."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from softdimo_jax.errors import UserError
from softdimo_jax.experiment.run import STUDENTS, Run
from softdimo_jax.generation.sampler import Sampler
from softdimo_jax.generation.tokens import multi_step_tokens, one_step_tokens
from softdimo_jax.method import sampling
from softdimo_jax.networks.generators.condition import Condition
from softdimo_jax.types import Params

# (generator params, tokenizer params, keys [N], condition, prompt ids) ->
# (tokens int32 [N, L, G] or None, images float32 [N, H, W, C]).
Generate = Callable[
  [Params, Params, jax.Array, Condition, Any],
  tuple[np.ndarray | None, np.ndarray],
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
  """A method that generates images.

  Attributes:
    name: name in rows and titles.
    stage: stage whose generator is used.
    options: every option that the images depend on, as JSON values; part of
      their fingerprint.
    generate: generates images in [0, 1]; see `Generate`.
    place: puts parameters on the devices used by `generate`.
    steps: steps of the generator; 1 for students.
    guidance_scale: guidance of the sampler, or of a student's distillation.
  """

  name: str
  stage: str
  options: Mapping[str, Any]
  generate: Generate
  place: Callable[[Params], Params]
  steps: int = 1
  guidance_scale: float | None = None

  @property
  def title(self) -> str:
    """Caption of its images in a report."""
    plural = 's' if self.steps > 1 else ''
    scale = self.guidance_scale
    guidance = f', guidance {scale:g}' if scale else ''
    return f'{self.name}, {self.steps} step{plural}{guidance}'


def sampled(
  run: Run,
  stage: str,
  batch_size: int,
  *,
  steps: int | None = None,
  guidance_scale: float | None = None,
  temperature: float | None = None,
) -> Method:
  """The sampler of a stage: multi-step for the teacher, else one step.

  Options that are None follow `config.sampling`.

  Args:
    run: workdir and configuration.
    stage: 'teacher' or a distillation.
    batch_size: images per compiled call, over all devices.
    steps: steps of the teacher.
    guidance_scale: guidance of the teacher.
    temperature: sampling temperature; 0, the arg max, for one step only.

  Raises:
    UserError: for steps or a temperature that the sampling plan rejects, or
      options that a one-step student does not have.
  """
  given = {
    'steps': steps,
    'guidance_scale': guidance_scale,
    'temperature': temperature,
  }
  if run.config[stage].kind != 'teacher':
    _refuse_teachers(stage, given)
  sampler, config = _sampler(run, stage, batch_size, given), run.config.sampling
  if run.config[stage].kind == 'teacher':
    defaults = {
      'steps': config.steps,
      'guidance_scale': config.guidance_scale,
      'temperature': config.plan.get('temperature', 1.0),
    }
    used = {k: defaults[k] if v is None else v for k, v in given.items()}
    count, scale = used['steps'], used['guidance_scale']
  else:
    used = {'temperature': student_temperature(run, stage, temperature)}
    count, scale = 1, run.config[stage].guidance_scale

  def generate(params, tokenizer, keys, condition, prompt_ids):
    del prompt_ids
    return sampler(params, tokenizer, keys, condition)

  return Method(
    name=stage,
    stage=stage,
    options=used,
    generate=generate,
    place=sampler.place,
    steps=count,
    guidance_scale=scale,
  )


def _refuse_teachers(stage: str, given: Mapping[str, float | None]) -> None:
  """Raises UserError for options that only the teacher has."""
  if given['steps'] not in (None, 1):
    raise UserError(
      f'--steps={given["steps"]} is for the teacher: {stage} makes its images '
      'in one step; leave the flag out, or give --model=teacher'
    )
  if given['guidance_scale'] is not None:
    raise UserError(
      f'--guidance_scale is for the teacher: {stage} learnt that of its '
      'distillation; leave the flag out, or give --model=teacher'
    )


def _sampler(
  run: Run, stage: str, batch_size: int, given: Mapping[str, float | None]
) -> Sampler:
  options = run.config.sampling.copy_and_resolve_references()
  options.update({k: v for k, v in given.items() if v is not None})
  if given['temperature'] is not None:
    options.plan.temperature = given['temperature']
  family = run.family
  if run.config[stage].kind == 'teacher':
    _check_plan(run, options)
    null = run.null  # read here, since it must not be computed in a trace
    tokens_fn = lambda params, keys, condition: multi_step_tokens(
      family, params, keys, condition, options=options, null=null
    )
  else:
    init = run.config[stage].init
    drawn = student_temperature(run, stage, given['temperature'])
    tokens_fn = lambda params, keys, condition: one_step_tokens(
      family, params, keys, condition, init=init, temperature=drawn
    )
  return Sampler(tokens_fn, family, batch_size)


def student_temperature(
  run: Run, stage: str, given: float | None = None
) -> float:
  """Temperature of a student's tokens: given, configured or as in training."""
  if given is not None:
    return given
  configured = run.config.sampling.temperature
  return run.config[stage].temperature if configured is None else configured


def _check_plan(run: Run, options: ml_collections.ConfigDict) -> None:
  """Raises UserError for steps or a temperature that the plan rejects."""
  plan = options.plan.to_dict()
  length, groups = run.family.token_shape
  try:
    sampling.make_plan(
      plan.pop('name'),
      options.steps,
      length * groups,
      guidance_scale=options.guidance_scale,
      **plan,
    )
  except ValueError as error:
    raise UserError(str(error)) from error


def compared(run: Run) -> Iterator[Method]:
  """Yields the rows of a report: teacher by scale and steps, then students."""
  config = run.config.evaluation
  for scale in config.guidance_scales:
    for steps in config.teacher_steps:
      yield sampled(
        run, 'teacher', config.batch_size, steps=steps, guidance_scale=scale
      )
  for stage in run.config.stages:
    if run.config[stage].kind in STUDENTS:
      yield sampled(run, stage, config.batch_size)
