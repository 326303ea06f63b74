"""What configuration files share: frames of a run and sections of its config.

A configuration file states what differs; every field is a field of the run.
Defaults are the papers', or those of their official code.
"""

from softdimo_jax.defaults.frames import (
  CONTROLS,
  PROMPTED_STAGES,
  add_stages,
  choose,
  estimators,
  experiment,
  imagenet,
  prompted,
  shorten,
)
from softdimo_jax.defaults.shared import (
  CLIP_VOCABULARY,
  evaluation,
  loop,
  mesh,
  optimizer,
  random_order,
  rewards,
  test_time,
)
from softdimo_jax.defaults.stages import (
  OFFICIAL_ADAM,
  classifier,
  contrastive,
  distillation,
  preference,
  rectify,
  small_distillation,
  teacher,
  tokenizer,
)

__all__ = [
  'CLIP_VOCABULARY',
  'CONTROLS',
  'OFFICIAL_ADAM',
  'PROMPTED_STAGES',
  'add_stages',
  'choose',
  'classifier',
  'contrastive',
  'distillation',
  'estimators',
  'evaluation',
  'experiment',
  'imagenet',
  'loop',
  'mesh',
  'optimizer',
  'preference',
  'prompted',
  'random_order',
  'rectify',
  'rewards',
  'shorten',
  'small_distillation',
  'teacher',
  'test_time',
  'tokenizer',
]
