"""The data of a run: one class for each form of data."""

from collections.abc import Callable

import ml_collections

from softdimo_jax.experiment.inputs.interface import (
  Conditions,
  Draw,
  Inputs,
  PromptIds,
)
from softdimo_jax.experiment.inputs.labels import LabelsInMemory, LabelsOnDisk
from softdimo_jax.experiment.inputs.prompts import Prompts
from softdimo_jax.experiment.inputs.scenes import Scenes
from softdimo_jax.families.family import Family
from softdimo_jax.types import Params

__all__ = [
  'Conditions',
  'Draw',
  'Inputs',
  'LabelsInMemory',
  'LabelsOnDisk',
  'PromptIds',
  'Prompts',
  'Scenes',
  'open_inputs',
]


def open_inputs(
  config: ml_collections.ConfigDict,
  family: Family,
  params: Callable[[str], Params],
) -> Inputs:
  """The data of a configuration; reads nothing yet.

  Args:
    config: configuration of the run. `data.prompts` selects a prompt cache and
      `data.tokens` a token cache; otherwise the data are rendered scenes, if
      the family reads text, or a data set in memory.
    family: generator, tokenizer and text tower.
    params: returns the parameters of a finished or pretrained stage.
  """
  if 'prompts' in config.data:
    kind = Prompts
  elif family.reads_text:
    kind = Scenes
  elif 'tokens' in config.data:
    kind = LabelsOnDisk
  else:
    kind = LabelsInMemory
  return kind(config, family, params)
