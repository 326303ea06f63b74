"""What a run reads: one class for each form of data."""

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
  """The data of a configuration; nothing is read yet.

  Args:
    config: its `data` names `prompts` (a prompt cache) or `tokens` (a token
      cache), or else is rendered scenes or a data set that fits into memory.
    family: generator, tokenizer and text tower.
    params: reads the parameters of a finished stage.
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
