"""Flags shared by the commands that generate images."""

import dataclasses
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from absl import flags

from softdimo_jax.data.prompts import sources
from softdimo_jax.data.prompts.sources import PromptList
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import best_of, config, methods
from softdimo_jax.experiment.images import RunImages
from softdimo_jax.experiment.inputs import Conditions
from softdimo_jax.experiment.methods import Method
from softdimo_jax.experiment.run import Run

WORKDIR = flags.DEFINE_string('workdir', None, 'Workdir of a run.')
MODEL = flags.DEFINE_string(
  'model', None, 'Stage to sample from; default: the last one of the run.'
)
SEED = flags.DEFINE_integer('seed', 0, 'Seed of the samples.')
_LABELS = flags.DEFINE_list(
  'labels', None, 'Class labels, e.g. 0,1,2; default: all.'
)
_PROMPT = flags.DEFINE_multi_string(
  'prompt', None, 'Prompt; may be given several times.'
)
_PROMPTS = flags.DEFINE_string(
  'prompts',
  None,
  'File of prompts: text with one per line, .jsonl, .json, .csv, .tsv or '
  '.parquet.',
)
_FIELD = flags.DEFINE_string(
  'field',
  None,
  'Column or key of the prompts in --prompts; default: the first of '
  f'{", ".join(sources.FIELDS)} that exists, in any case.',
)

_IMAGES_PER_CALL = 64
# Images with at least this many pixels per side are written at their own size.
_SMALL = 128


def load_run() -> Run:
  """The run of --workdir.

  Raises:
    UserError: if --workdir is missing or not the workdir of a run.
  """
  if not WORKDIR.value:
    raise UserError('give the run: --workdir=DIR')
  workdir = pathlib.Path(WORKDIR.value).absolute()
  return Run(workdir, config.load(workdir))


def prompt_file() -> str | None:
  """The value of --prompts."""
  return _PROMPTS.value


def has_prompts() -> bool:
  """Whether --prompt or --prompts is given."""
  return bool(_PROMPT.value or _PROMPTS.value)


def prompts() -> PromptList:
  """Prompts of --prompt, then those of --prompts; prints their number.

  Raises:
    UserError: if the file cannot be read, or there are no prompts.
  """
  typed = sources.typed(_PROMPT.value or (), '--prompt')
  if not _PROMPTS.value:
    if _FIELD.value is not None:
      raise UserError('--field applies to --prompts')
    return typed
  found = sources.read_file(_PROMPTS.value, _FIELD.value)
  print(found)
  if not typed.texts:
    return found
  return sources.typed((*typed.texts, *found.texts), '--prompt and --prompts')


def conditions(run: Run, rewards: Iterable[str] = ()) -> Conditions:
  """Labels or prompts of the flags, encoded for the run and these rewards.

  Raises:
    UserError: for flags of the other kind, labels out of range, no prompt, or
      unreadable prompts.
  """
  if run.family.reads_text:
    if _LABELS.value:
      raise UserError('this run reads text; give --prompt instead of --labels')
    return run.inputs.conditions(_prompts(), rewards)
  if _PROMPT.value or _PROMPTS.value:
    raise UserError(
      'this run is class-conditional; give --labels instead of prompts'
    )
  return run.inputs.conditions(_labels(run.family.null_label), rewards)


def _labels(classes: int) -> list[int]:
  if _LABELS.value is None:
    return list(range(classes))
  if not _LABELS.value:
    raise UserError('--labels is empty; give numbers, e.g. 0,1,2')
  try:
    return [int(label) for label in _LABELS.value]
  except ValueError as error:
    raise UserError(
      f'--labels={",".join(_LABELS.value)} must be numbers, e.g. 0,1,2'
    ) from error


def _prompts() -> list[str]:
  if not has_prompts():
    raise UserError(
      'this run reads text; give e.g. --prompt="a red circle", or a file with '
      '--prompts'
    )
  return list(prompts().texts)


def file_scale(run: Run, requested: int | None, small: int) -> int:
  """Output pixels per image pixel; by default `small` for small images."""
  side = max(run.family.image_shape[:2])
  return requested or (small if side < _SMALL else 1)


@dataclasses.dataclass(frozen=True)
class MethodFlags:
  """Flags of the sampling methods: samplers, TTEO and best-of-N."""

  sampler: 'SamplerFlags'
  best_of: flags.FlagHolder[int]
  tteo_steps: flags.FlagHolder[int]
  batch_size: flags.FlagHolder[int | None]

  @classmethod
  def define(cls) -> 'MethodFlags':
    """Defines the flags; called once, when a command is imported."""
    return cls(
      SamplerFlags.define(),
      flags.DEFINE_integer(
        'best_of',
        1,
        "Starts per image; the one that the run's rewards prefer is kept.",
        1,
      ),
      flags.DEFINE_integer(
        'tteo_steps', 0, 'Steps of test-time optimisation per start.', 0
      ),
      flags.DEFINE_integer(
        'batch_size',
        None,
        'Images per call, over all devices; default: 64. With --best_of or '
        '--tteo_steps, also starts per call; default: config.tteo.batch_size.',
        1,
      ),
    )

  @property
  def images_per_call(self) -> int:
    """Images per call of a sampler, or of a network that scores images."""
    return self.batch_size.value or _IMAGES_PER_CALL

  def rewards(self, run: Run) -> tuple[str, ...]:
    """Names of the rewards that select images, and so read the prompts."""
    if self.best_of.value == 1 and self.tteo_steps.value == 0:
      return ()
    return tuple(best_of.terms_of(run))

  def method(
    self,
    run: Run,
    stage: str,
    num_images: int,
    temperature: float | None = None,
  ) -> Method:
    """The method selected by the flags.

    Args:
      run: workdir and configuration.
      stage: stage to sample from.
      num_images: number of images in total.
      temperature: overrides --temperature.

    Raises:
      UserError: for options that the stage does not have.
    """
    options = dict(self.sampler.values)
    if temperature is not None:
      options['temperature'] = temperature
    starts, steps = self.best_of.value, self.tteo_steps.value
    if starts == 1 and steps == 0:
      size = min(self.images_per_call, num_images)
      return methods.sampled(run, stage, size, **options)
    given = [name for name, value in options.items() if value is not None]
    if given:
      raise UserError(
        f'--{given[0]} does not apply to --best_of and --tteo_steps, which use '
        'the temperature of the configuration'
      )
    return best_of.best_of_n(
      run, stage, starts=starts, steps=steps, batch_size=self.batch_size.value
    )

  def images(
    self,
    run: Run,
    stage: str,
    conditions: Conditions,
    order: np.ndarray,
    temperature: float | None = None,
  ) -> tuple[str, RunImages]:
    """(name of the method, the images); see `method` and `RunImages`."""
    method = self.method(run, stage, len(order), temperature)
    return method.name, RunImages(run, method, conditions, order, SEED.value)


@dataclasses.dataclass(frozen=True)
class SamplerFlags:
  """Flags of a sampler; None follows the configuration of the run."""

  steps: flags.FlagHolder[int | None]
  guidance_scale: flags.FlagHolder[float | None]
  temperature: flags.FlagHolder[float | None]

  @classmethod
  def define(cls) -> 'SamplerFlags':
    """Defines the flags; called once, when a command is imported."""
    return cls(
      flags.DEFINE_integer(
        'steps',
        None,
        'Sampling steps of the teacher; default: config.sampling.steps.',
        1,
      ),
      flags.DEFINE_float(
        'guidance_scale',
        None,
        'Guidance scale s of the teacher, in u + s (c - u); default: '
        'config.sampling.guidance_scale.',
      ),
      flags.DEFINE_float(
        'temperature',
        None,
        'Sampling temperature; 0 takes the arg max; default: that of the '
        'configuration.',
        0.0,
      ),
    )

  @property
  def values(self) -> dict[str, Any]:
    """Values of the flags, by name."""
    return {
      field.name: getattr(self, field.name).value
      for field in dataclasses.fields(self)
    }
