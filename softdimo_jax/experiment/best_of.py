"""Best of N by the run's rewards, with or without test-time optimisation.

The start with the highest composite score is chosen in `TTEO.__call__`
(`generation/tteo.py`); without optimisation steps that is best-of-N.
"""

from softdimo_jax.errors import UserError
from softdimo_jax.experiment.methods import Method, student_temperature
from softdimo_jax.experiment.run import Run
from softdimo_jax.generation.tteo import TTEO


def terms_of(run: Run) -> dict[str, float]:
  """Weights of the rewards that test-time optimisation maximises, by name."""
  return {
    name: weight for name, weight in run.config.tteo.terms.items() if weight
  }


def optimizer(
  run: Run,
  stage: str,
  *,
  starts: int,
  steps: int,
  learning_rate: float | None = None,
  batch_size: int | None = None,
) -> TTEO:
  """Test-time optimisation of a student on the score of `config.tteo`.

  Args:
    run: workdir and configuration.
    stage: a distillation.
    starts: starts N per prompt.
    steps: ascent steps K per start.
    learning_rate: learning rate of the ascent; None follows `config.tteo`.
    batch_size: starts per call, over all devices; None follows `config.tteo`.
  """
  config, terms = run.config.tteo, terms_of(run)
  return TTEO(
    family=run.family,
    rewards=run.inputs.rewards(terms),
    terms=terms,
    init=run.config[stage].init,
    starts=starts,
    steps=steps,
    temperature=student_temperature(run, stage),
    batch_size=config.batch_size if batch_size is None else batch_size,
    learning_rate=(
      config.learning_rate if learning_rate is None else learning_rate
    ),
  )


def best_of_n(
  run: Run,
  stage: str,
  *,
  starts: int,
  steps: int,
  batch_size: int | None = None,
) -> Method:
  """Best of N by the run's rewards, after test-time optimisation if steps > 0.

  Unlike an oracle, it does not use the judge that evaluates the images. See
  `optimizer` for the arguments.

  Raises:
    UserError: if the run has no rewards, or the stage is not a student.
  """
  if run.config[stage].kind != 'distill' or 'tteo' not in run.config:
    raise UserError(
      '--best_of and --tteo_steps need a distilled stage and the rewards of '
      'config.tteo'
    )
  tteo = optimizer(
    run, stage, starts=starts, steps=steps, batch_size=batch_size
  )
  rewards = tteo.place(run.reward_params(tteo.terms))
  name = f'{stage}, best of {starts} by {", ".join(tteo.terms)}'

  def generate(params, tokenizer, keys, condition, prompt_ids):
    best = tteo(params, tokenizer, rewards, keys, condition, prompt_ids)
    return None, best.images

  return Method(
    name=f'{name}, {steps} steps of TTEO' if steps else name,
    stage=stage,
    options={
      'best_of': starts,
      'tteo_steps': steps,
      'learning_rate': tteo.learning_rate,
      'rewards': dict(tteo.terms),
      'temperature': tteo.temperature,
    },
    generate=generate,
    place=tteo.place,
  )
