"""What the results of every run share: samplers, contenders, curves, table."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from softdimo_jax.convert.rule_weights import RULE
from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.benchmarks import geneval_rules
from softdimo_jax.evaluation.report import table
from softdimo_jax.evaluation.report.page import Curve
from softdimo_jax.experiment.run import Run
from softdimo_jax.generation.sampler import Sampler
from softdimo_jax.generation.tokens import multi_step_tokens, one_step_tokens
from softdimo_jax.generation.tteo import TTEO
from softdimo_jax.runtime.curves import read_metrics

Row = dict[str, Any]

_CURVES = {
  'student/max_probability': 'Mean max-probability of the student',
  'student/entropy': 'Token entropy of the student (nats)',
  'dimo/discrepancy': 'Mean |p_psi - p_phi| on masked tokens',
  'auxiliary/cross_entropy': 'Cross entropy of the auxiliary (nats)',
  'gan/discriminator_accuracy': 'Accuracy of the discriminator',
  'gan/gradient_ratio': 'Norm of GAN over Di[M]O logit gradient',
  'reward/total': 'Weighted reward of the soft images',
  'reward/gradient_ratio': 'Norm of reward over Di[M]O logit gradient',
}


# Columns of results.json that a terminal has no room for.
_LONG = (
  *('density', 'coverage', 'unique_rate'),
  *geneval_rules.TAGS,
  *('overall_error', 'exact_error', 'num_images', 'delta_share'),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contender:
  """A way to make images from a condition; columns that name it in a row."""

  model: str
  steps: int
  guidance_scale: float | None
  stage: str
  sampler: Sampler

  @property
  def title(self) -> str:
    """For captions."""
    plural = 's' if self.steps > 1 else ''
    guidance = (
      f', guidance {self.guidance_scale:g}' if self.guidance_scale else ''
    )
    return f'{self.model}, {self.steps} step{plural}{guidance}'


def generator_stage(run: Run, wanted: str | None) -> str:
  """The stage to sample from: the one wanted, else the run's last.

  Raises:
    UserError: if the run has no such generator.
  """
  models = [
    name
    for name in (*_given(run), *run.config.stages)
    if run.config.get(name, {}).get('kind') in ('teacher', 'distill')
  ]
  if not models:
    raise UserError('this run has no generator to sample from')
  stage = wanted or models[-1]
  if stage not in models:
    raise UserError(
      f'--model={stage} is not one of this run: {", ".join(models)}'
    )
  return stage


def _given(run: Run) -> list[str]:
  """What the run takes from elsewhere and has, the most distilled last."""
  config = run.config
  rule = config.get('weights') == RULE

  def distance(name: str) -> int:
    starts = 0
    while 'start' in config.get(name, {}) and starts < len(config):
      name, starts = config[name].start, starts + 1
    return starts

  names = [
    name
    for name, folder in config.get('pretrained', {}).items()
    if (folder or rule) and name not in config.stages
  ]
  return sorted(names, key=distance)


def sampler(
  run: Run,
  stage: str,
  batch_size: int,
  *,
  steps: int | None = None,
  guidance_scale: float | None = None,
  temperature: float | None = None,
) -> Sampler:
  """Sampler of a stage: multi-step for the teacher, else one step.

  What is None follows `config.sampling`.

  Args:
    run: workdir and configuration.
    stage: 'teacher' or a distillation.
    batch_size: of a compiled call.
    steps: the teacher's.
    guidance_scale: the teacher's.
    temperature: of the draw; 0, the arg max, for one step only.

  Returns:
    The sampler; parameters are given at the call.

  Raises:
    ValueError: for a number of steps that the plan does not have.
  """
  options = run.config.sampling.copy_and_resolve_references()
  given = {
    'steps': steps,
    'guidance_scale': guidance_scale,
    'temperature': temperature,
  }
  options.update({k: v for k, v in given.items() if v is not None})
  if temperature is not None:
    options.plan.temperature = temperature
  if run.config[stage].kind == 'teacher':
    tokens_fn = lambda params, key, condition: multi_step_tokens(
      run.family,
      params,
      key,
      condition,
      options=options,
      null=run.null_condition,
    )
  else:
    tokens_fn = lambda params, key, condition: one_step_tokens(
      run.family,
      params,
      key,
      condition,
      init=run.config[stage].init,
      temperature=options.temperature,
    )
  return Sampler(tokens_fn, run.family, batch_size)


def test_time_terms(run: Run) -> dict[str, float]:
  """Rewards that test-time optimisation ascends, with their weights."""
  return {
    name: weight for name, weight in run.config.tteo.terms.items() if weight
  }


def test_time_optimizer(
  run: Run,
  stage: str,
  *,
  starts: int,
  steps: int,
  learning_rate: float | None = None,
) -> TTEO:
  """Optimizer of a distilled stage on the composite score of `config.tteo`.

  Args:
    run: workdir and configuration.
    stage: a distillation.
    starts: N.
    steps: K.
    learning_rate: of the ascent; None follows the configuration.
  """
  config, terms = run.config.tteo, test_time_terms(run)
  return TTEO(
    family=run.family,
    rewards=run.rewards(terms),
    terms=terms,
    init=run.config[stage].init,
    starts=starts,
    steps=steps,
    temperature=run.config.sampling.temperature,
    batch_size=config.batch_size,
    learning_rate=(
      config.learning_rate if learning_rate is None else learning_rate
    ),
  )


def contenders(run: Run) -> Iterator[Contender]:
  """The teacher at its steps and scales, then every distilled student."""
  config = run.config.evaluation
  for scale in config.guidance_scales:
    for steps in config.teacher_steps:
      yield Contender(
        model='teacher',
        steps=steps,
        guidance_scale=scale,
        stage='teacher',
        sampler=sampler(
          run, 'teacher', config.batch_size, steps=steps, guidance_scale=scale
        ),
      )
  for stage in run.config.stages:
    if run.config[stage].kind == 'distill':
      yield Contender(
        model=stage,
        steps=1,
        guidance_scale=run.config[stage].guidance_scale,
        stage=stage,
        sampler=sampler(run, stage, config.batch_size),
      )


def sharpness(run: Run, stage: str) -> Row:
  """The student's concentration at the end of its training."""
  if run.config[stage].kind != 'distill':
    return {}
  last = read_metrics(run.folder(stage) / 'metrics.jsonl')[-1]
  return {
    'max_probability': last['student/max_probability'],
    'delta_share': last['student/delta_share'],
  }


def curves(run: Run) -> list[Curve]:
  """Of what several stages log under the same name."""
  curves = []
  for metric, title in _CURVES.items():
    series = {}
    for stage in run.config.stages:
      rows = read_metrics(run.folder(stage) / 'metrics.jsonl')
      points = [(r['step'], r[metric]) for r in rows if metric in r]
      if points:
        series[stage] = tuple(zip(*points, strict=True))
    if series:
      curves.append(
        Curve(title=title, x_label='step', y_label='', series=series)
      )
  return curves


def summary(rows: list[Row]) -> str:
  """Table for the terminal."""
  shown = [{k: v for k, v in row.items() if k not in _LONG} for row in rows]
  return table.format_table(shown)
