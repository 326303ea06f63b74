"""What configuration files share: frames of a run and sections of its config.

A configuration file states what differs; every field is a field of the run.
Defaults are the papers', or those of their official code.
"""

from softdimo_jax.defaults.frames import (
  GAN_ABLATIONS,
  PROMPTED_STAGES,
  add_stages,
  choose,
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
  small_distillation,
  teacher,
  tokenizer,
)

__all__ = [
  'CLIP_VOCABULARY',
  'GAN_ABLATIONS',
  'OFFICIAL_ADAM',
  'PROMPTED_STAGES',
  'add_stages',
  'choose',
  'classifier',
  'contrastive',
  'distillation',
  'evaluation',
  'experiment',
  'imagenet',
  'loop',
  'mesh',
  'optimizer',
  'preference',
  'prompted',
  'random_order',
  'rewards',
  'shorten',
  'small_distillation',
  'teacher',
  'test_time',
  'tokenizer',
]
