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
from softdimo_jax.experiment import best_of, config, methods, records
from softdimo_jax.experiment.images import RunImages
from softdimo_jax.experiment.inputs import Conditions
from softdimo_jax.experiment.methods import Method
from softdimo_jax.experiment.run import Run
from softdimo_jax.runtime import bounds, flag_types, system

WORKDIR = flag_types.path('workdir', None, 'Workdir of a run.')
MODEL = flags.DEFINE_string(
  'model', None, 'Stage to sample from; default: the last one of the run.'
)
SEED = flag_types.seed('seed', 'Seed of the samples.')
_LABELS = flag_types.number_list(
  'labels', 'Class labels, e.g. 0,1,2; default: all.', bounds.count(0)
)
_PROMPT = flags.DEFINE_multi_string(
  'prompt', None, 'Prompt; may be given several times.'
)
_PROMPTS = flag_types.path(
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
    UserError: if --workdir is missing or not the workdir of a run, its
      configuration is not that of its stages, or a pretrained network was
      replaced.
  """
  if not WORKDIR.value:
    raise UserError('give the run: --workdir=DIR')
  workdir = pathlib.Path(WORKDIR.value).absolute()
  stored = config.load(workdir)
  records.check(workdir, stored)
  run = Run(workdir, stored)
  run.check_pretrained()
  return run


def refuse(names: Iterable[str], reason: str) -> None:
  """Refuses flags that the command would not read.

  Raises:
    UserError: naming the first one that was given, and the reason.
  """
  given = [x for x in names if x in flags.FLAGS and flags.FLAGS[x].present]
  if given:
    raise UserError(f'--{given[0]} does not apply here: {reason}')


def refuse_samplers(also: Iterable[str] = ()) -> None:
  """Refuses flags that say how images are made, for images that exist."""
  sampler = ('model', 'seed', 'labels', 'steps', 'guidance_scale')
  search = ('temperature', 'best_of', 'tteo_steps')
  refuse((*sampler, *search, *also), 'it is for images of a run (--workdir)')


def check_memory(what: str, needed: int) -> None:
  """Refuses what needs more than half of the host's free memory.

  Args:
    what: flags that decide how much, for the message.
    needed: bytes.

  Raises:
    UserError: with both sizes.
  """
  free = system.free_memory()
  if needed > free / 2:
    raise UserError(
      f'{what} needs {needed / 1e9:.0f} GB, but only {free / 1e9:.0f} GB are '
      'free, of which half may be used; lower the number'
    )


def images_per_call(run: Run) -> int:
  """Images that a sampler makes at once by default, over all devices."""
  return run.config.sampling.get('batch_size', _IMAGES_PER_CALL)


def prompt_file() -> str | None:
  """The value of --prompts."""
  return _PROMPTS.value


def has_prompts() -> bool:
  """Whether --prompt or --prompts is given."""
  return bool(_PROMPT.value or _PROMPTS.value)


def prompt_source() -> dict[str, Any] | None:
  """JSON values that say where the flags take prompts from; None if nowhere."""
  if not has_prompts():
    return None
  return {
    'prompt': _PROMPT.value,
    'prompts': _PROMPTS.value,
    'field': _FIELD.value,
  }


def prompts() -> PromptList:
  """Prompts of --prompt, then those of --prompts; prints their number.

  Raises:
    UserError: if the file cannot be read, or there are no prompts.
  """
  typed = sources.typed(_PROMPT.value or (), '--prompt')
  if not _PROMPTS.value:
    refuse(('field',), 'it is the column of --prompts, which is not given')
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
    refuse(('labels',), 'this run reads text; give --prompt')
    return run.inputs.conditions(_prompts(), rewards)
  refuse(
    ('prompt', 'prompts', 'field'),
    'this run is class-conditional; give --labels',
  )
  labels = _LABELS.value or range(run.family.null_label)
  return run.inputs.conditions(labels, rewards)


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
      flag_types.count(
        'best_of',
        1,
        "Starts per image; the one that the run's rewards prefer is kept.",
      ),
      flag_types.count(
        'tteo_steps', 0, 'Steps of test-time optimisation per start.', 0
      ),
      flag_types.count(
        'batch_size',
        None,
        'Images per call, over all devices; default: '
        'config.sampling.batch_size, or else 64. With --best_of or '
        '--tteo_steps, also starts per call; default: config.tteo.batch_size.',
      ),
    )

  @property
  def images_per_call(self) -> int:
    """Images per call of a network that scores them."""
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
      size = min(self.batch_size.value or images_per_call(run), num_images)
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
      flag_types.count(
        'steps',
        None,
        'Sampling steps of the teacher; default: config.sampling.steps.',
      ),
      flag_types.number(
        'guidance_scale',
        None,
        'Guidance scale s of the teacher, in u + s (c - u); default: '
        'config.sampling.guidance_scale.',
        bounds.GUIDANCE,
      ),
      flag_types.number(
        'temperature',
        None,
        'Sampling temperature; 0 takes the arg max; default: that of the '
        'configuration.',
        bounds.TEMPERATURE,
      ),
    )

  @property
  def values(self) -> dict[str, Any]:
    """Values of the flags, by name."""
    return {
      field.name: getattr(self, field.name).value
      for field in dataclasses.fields(self)
    }
