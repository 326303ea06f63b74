"""What is measured: MaskGit's networks at three sizes, and their steps.

The torch step of `torch_step.py` knows MaskGit only, so all sizes are MaskGit.
"""

import dataclasses

from ml_collections import ConfigDict

from configs import digits, maskgit
from softdimo_jax import defaults

SIZES = ('digits', 'medium', 'full')


@dataclasses.dataclass(frozen=True)
class Size:
  """A system and its distillation.

  Attributes:
    model: `generator` and `tokenizer` of `families.build`.
    distillation: section of a configuration, without GAN or reward.
    sampling: the teacher's decoding.
  """

  model: ConfigDict
  distillation: ConfigDict
  sampling: ConfigDict


def get(name: str, batch_size: int = 0) -> Size:
  """A size; batch 0 is its own.

  Raises:
    ValueError: for an unknown name.
  """
  if name not in SIZES:
    raise ValueError(f'size {name!r} is unknown; choose one of {SIZES}')
  config = digits.get_config() if name == 'digits' else maskgit.get_config()
  distillation = config.dimo
  if name != 'digits':
    # One row fits beside another framework's step at full size.
    distillation.batch_size = 4 if name == 'medium' else 1
    config.model.generator.update(dtype='float32', remat='none')
  if name == 'medium':
    config.model.generator.update(
      width=512, depth=12, num_heads=8, mlp_width=2048
    )
    config.model.tokenizer.update(hidden_channels=32)
  distillation.batch_size = batch_size or distillation.batch_size
  # Adam's first update has its full rate, so that there is one to compare.
  distillation.optimizer = defaults.optimizer(1e-5, warmup_steps=0)
  distillation.auxiliary.optimizer = defaults.optimizer(
    1e-5, warmup_steps=0, clip_norm=0.0
  )
  return Size(config.model, distillation, config.sampling)
