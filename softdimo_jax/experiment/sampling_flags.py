"""What the commands that make images are asked for: flags they share."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np
from absl import flags

from softdimo_jax.data.prompts import files as prompt_files
from softdimo_jax.errors import UserError
from softdimo_jax.experiment import config
from softdimo_jax.experiment.images import (
  Method,
  RunImages,
  Wanted,
  chosen_by_rewards,
  sampled,
)
from softdimo_jax.experiment.reports import rows as results
from softdimo_jax.experiment.run import PromptIds, Run
from softdimo_jax.generation.sampler import Sampler
from softdimo_jax.networks.generators.condition import Condition

WORKDIR = flags.DEFINE_string('workdir', None, 'Workdir of a run.')
MODEL = flags.DEFINE_string(
  'model', None, 'Stage to sample from; the last one of the run by default.'
)
SEED = flags.DEFINE_integer('seed', 0, 'Of the samples.')
_LABELS = flags.DEFINE_list('labels', None, 'Classes, e.g. 0,1,2; default all.')
_PROMPT = flags.DEFINE_multi_string(
  'prompt', None, 'What to show; may be given several times.'
)
_PROMPTS = flags.DEFINE_string(
  'prompts', None, 'File of prompts: one a line, or .jsonl with "prompt".'
)


# Pixels a side of images that files show as they are.
_SMALL = 128


@dataclasses.dataclass(frozen=True)
class Request:
  """What is asked for, in the order it was named.

  Attributes:
    names: of every condition: a label or a prompt.
    inputs: int [N] labels, or [N, T] token ids of prompts.
    encode: inputs -> condition, arrays of the host; text features are large,
      and made when they are asked for.
    prompt_ids: the prompts as rewards read them, see `pipeline.Run.read`; None
      for labels.
  """

  names: tuple[str, ...]
  inputs: np.ndarray
  encode: Callable[[np.ndarray], Condition]
  prompt_ids: PromptIds | None = None

  def __len__(self) -> int:
    return len(self.names)

  def take(self, index: np.ndarray) -> Condition:
    """Condition of these, any number of times each."""
    rows, places = np.unique(index, return_inverse=True)
    found = self.encode(self.inputs[rows])
    return jax.tree.map(lambda array: array[places], found)

  def part(self, rows: slice) -> 'Request':
    """Of these names only."""
    cut = lambda array: array[rows]
    return Request(
      self.names[rows],
      cut(self.inputs),
      self.encode,
      jax.tree.map(cut, self.prompt_ids),
    )

  def wanted(self, order: np.ndarray) -> Wanted:
    """A set of images that shows these in this order, int [N]."""
    return Wanted(
      names=self.names,
      take=self.take,
      prompt_ids=self.prompt_ids,
      order=order,
    )


def load_run() -> Run:
  """The run of --workdir.

  Raises:
    UserError: if there is none.
  """
  if not WORKDIR.value:
    raise UserError('say which run: --workdir=DIR')
  workdir = pathlib.Path(WORKDIR.value).absolute()
  return Run(workdir, config.load(workdir))


def prompt_file() -> str | None:
  """The file of --prompts."""
  return _PROMPTS.value


def texts() -> list[str]:
  """Prompts of the flags, those of the file last.

  Raises:
    UserError: if the file cannot be read.
  """
  found = list(_PROMPT.value or ())
  if _PROMPTS.value:
    found += prompt_files.read_prompts(_PROMPTS.value)
  return found


def read(run: Run, rewarded: Iterable[str] = ()) -> Request:
  """Labels or prompts of the flags, as the run and these rewards read them.

  Raises:
    UserError: for flags of the other kind, labels out of range, no prompt, or
      prompts that cannot be understood.
  """
  if run.family.reads_text:
    if _LABELS.value:
      raise UserError('this run reads text; give --prompt instead of --labels')
    return _prompts(run, rewarded)
  if _PROMPT.value or _PROMPTS.value:
    raise UserError('this run knows classes; give --labels instead of prompts')
  labels = _labels(run.family.null_label)
  names, labels = tuple(map(str, labels)), np.array(labels, np.int32)
  return Request(names, labels, lambda labels: labels)


def _labels(classes: int) -> list[int]:
  try:
    labels = [int(label) for label in _LABELS.value or range(classes)]
  except ValueError as error:
    raise UserError(
      f'--labels={",".join(_LABELS.value)} must be numbers, e.g. 0,1,2'
    ) from error
  outside = [label for label in labels if not 0 <= label < classes]
  if outside:
    raise UserError(
      f'label {outside[0]} is out of range; this run knows 0 to {classes - 1}'
    )
  return labels


def _prompts(run: Run, rewarded: Iterable[str]) -> Request:
  prompts = texts()
  if not prompts:
    raise UserError(
      'this run reads text; say what to show, e.g. --prompt="a red circle", or '
      'name a file with --prompts'
    )
  return of_prompts(run, prompts, rewarded)


def of_prompts(
  run: Run, prompts: Sequence[str], rewarded: Iterable[str] = ()
) -> Request:
  """Prompts as the run and these rewards read them.

  Raises:
    UserError: for those that cannot be understood.
  """
  ids, prompt_ids = run.read(prompts, rewarded)
  # Finds a missing text tower before anything is written.
  encode = run.prompted.encode if run.reads_prompts else run.text_features
  return Request(tuple(prompts), ids, encode, prompt_ids)


def file_scale(run: Run, wanted: int | None, small: int) -> int:
  """Pixels of a file a pixel: what is wanted, or `small` of small images."""
  side = max(run.family.image_shape[:2])
  return wanted or (small if side < _SMALL else 1)


@dataclasses.dataclass(frozen=True)
class MethodFlags:
  """Flags of the ways to make images, samplers and best of N."""

  sampler: 'SamplerFlags'
  best_of: flags.FlagHolder[int]
  tteo_steps: flags.FlagHolder[int]
  batch_size: flags.FlagHolder[int]

  @classmethod
  def define(cls) -> 'MethodFlags':
    """Once, when a command is imported."""
    return cls(
      SamplerFlags.define(),
      flags.DEFINE_integer(
        'best_of', 1, "Starts an image; the run's rewards choose one.", 1
      ),
      flags.DEFINE_integer(
        'tteo_steps', 0, 'Steps of test-time optimisation of every start.', 0
      ),
      flags.DEFINE_integer(
        'batch_size', 64, 'Images of a call, over all devices.', 1
      ),
    )

  def rewarded(self, run: Run) -> tuple[str, ...]:
    """Names of the rewards that choose, which need the prompts, too."""
    if self.best_of.value == 1 and self.tteo_steps.value == 0:
      return ()
    return tuple(results.test_time_terms(run))

  def method(
    self,
    run: Run,
    stage: str,
    num_images: int,
    temperature: float | None = None,
  ) -> Method:
    """What the flags ask for; a given temperature overrides theirs.

    Raises:
      UserError: for what the stage does not have.
    """
    options = dict(self.sampler.values)
    if temperature is not None:
      options['temperature'] = temperature
    starts, steps = self.best_of.value, self.tteo_steps.value
    if starts == 1 and steps == 0:
      size = min(self.batch_size.value, num_images)
      return sampled(run, stage, size, options)
    given = [name for name, value in options.items() if value is not None]
    if given:
      raise UserError(
        f'--{given[0]} does not go with --best_of or --tteo_steps, whose '
        'temperature is that of the configuration'
      )
    return chosen_by_rewards(run, stage, starts=starts, steps=steps)

  def images(
    self,
    run: Run,
    stage: str,
    wanted: Wanted,
    temperature: float | None = None,
  ) -> tuple[str, RunImages]:
    """(title of the method, the images)."""
    method = self.method(run, stage, len(wanted.order), temperature)
    return method.title, RunImages(run, stage, method, wanted, SEED.value)


@dataclasses.dataclass(frozen=True)
class SamplerFlags:
  """Flags of a sampler; None follows the run's configuration."""

  steps: flags.FlagHolder[int | None]
  guidance_scale: flags.FlagHolder[float | None]
  temperature: flags.FlagHolder[float | None]

  @classmethod
  def define(cls) -> 'SamplerFlags':
    """Once, when a command is imported."""
    return cls(
      flags.DEFINE_integer(
        'steps', None, "The teacher's steps; the configuration's by default.", 1
      ),
      flags.DEFINE_float(
        'guidance_scale',
        None,
        "The teacher's s in u + s (c - u); the configuration's by default.",
      ),
      flags.DEFINE_float(
        'temperature', None, 'Of the draw; 0 is the arg max.', 0.0
      ),
    )

  @property
  def values(self) -> dict[str, float | None]:
    """By name."""
    return {
      field.name: getattr(self, field.name).value
      for field in dataclasses.fields(self)
    }

  def sampler(self, run: Run, stage: str, batch_size: int) -> Sampler:
    """Sampler of a stage; errors as `results.sampler`."""
    return results.sampler(run, stage, batch_size, **self.values)
