"""What the commands that make images are asked for: flags they share."""

import dataclasses
import pathlib
from collections.abc import Callable, Iterable

import jax
import numpy as np
from absl import flags

from softdimo_jax import config, generate, pipeline, results
from softdimo_jax.data import prompts as prompt_files
from softdimo_jax.errors import UserError
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
_VOCABULARY = flags.DEFINE_string(
  'vocabulary',
  None,
  "Folder with CLIP's vocab.json and merges.txt, or Hub id, where the "
  "configuration's is not to be had.",
)
flags.mark_flag_as_required('workdir')


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
    captions: the prompts as rewards read them, see `pipeline.Run.read`; None
      for labels.
  """

  names: tuple[str, ...]
  inputs: np.ndarray
  encode: Callable[[np.ndarray], Condition]
  captions: pipeline.Captions | None = None

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
      jax.tree.map(cut, self.captions),
    )


def load_run() -> pipeline.Run:
  """The run of --workdir.

  Raises:
    UserError: if there is none.
  """
  workdir = pathlib.Path(WORKDIR.value).absolute()
  return pipeline.Run(workdir, config.load(workdir))


def read(run: pipeline.Run, rewarded: Iterable[str] = ()) -> Request:
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


def _prompts(run: pipeline.Run, rewarded: Iterable[str]) -> Request:
  texts = list(_PROMPT.value or ())
  if _PROMPTS.value:
    texts += prompt_files.read_prompts(_PROMPTS.value)
  if not texts:
    raise UserError(
      'this run reads text; say what to show, e.g. --prompt="a red circle", or '
      'name a file with --prompts'
    )
  if _VOCABULARY.value and run.reads_prompts:
    run.config.data.vocabulary = _VOCABULARY.value
  ids, captions = run.read(texts, rewarded)
  # Finds a missing text tower before anything is written.
  encode = run.prompted.encode if run.reads_prompts else run.text_features
  return Request(tuple(texts), ids, encode, captions)


def file_scale(run: pipeline.Run, wanted: int | None, small: int) -> int:
  """Pixels of a file a pixel: what is wanted, or `small` of small images."""
  side = max(run.family.image_shape[:2])
  return wanted or (small if side < _SMALL else 1)


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

  def sampler(
    self, run: pipeline.Run, stage: str, batch_size: int
  ) -> generate.Sampler:
    """Sampler of a stage; errors as `results.sampler`."""
    return results.sampler(run, stage, batch_size, **self.values)
