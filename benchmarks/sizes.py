"""The measured systems at several sizes, and their distillation."""

import dataclasses

from ml_collections import ConfigDict

from configs import digits, maskbit, maskgit
from softdimo_jax import defaults

# MaskGit's Di[M]O at three sizes, which PyTorch also has; then the full-size
# Soft-Di[M]O of MaskBit, ours only.
TORCH_SIZES = ('digits', 'medium', 'full')
SIZES = (*TORCH_SIZES, 'maskbit')


@dataclasses.dataclass(frozen=True)
class Size:
  """A system and its distillation.

  Attributes:
    model: `generator` and `tokenizer` of `families.build`.
    distillation: section of the configuration.
    sampling: of the teacher.
  """

  model: ConfigDict
  distillation: ConfigDict
  sampling: ConfigDict


def get(
  name: str,
  *,
  batch_size: int = 0,
  dtype: str = 'float32',
  remat: str = '',
  dropout: bool = False,
) -> Size:
  """Returns a size.

  Args:
    name: one of SIZES.
    batch_size: 0 for the size's own, which two cores compute in seconds.
    dtype: of the matrix products.
    remat: a key of `layers.REMAT_POLICIES`; '' for the size's own. Recomputing
      pays off where the stored activations do not fit into the cache.
    dropout: whether student and auxiliary have the official dropout.

  Raises:
    ValueError: for an unknown name.
  """
  if name not in SIZES:
    raise ValueError(f'size {name!r} is unknown; choose one of {SIZES}')
  config = {'digits': digits, 'maskbit': maskbit}.get(
    name, maskgit
  ).get_config()
  distillation = config.softdimo if name == 'maskbit' else config.dimo
  own = {'digits': distillation.batch_size, 'medium': 4}.get(name, 1)
  distillation.update(batch_size=batch_size or own, dropout=dropout)
  # Without warm-up, whose first update is zero: the check compares updates.
  distillation.optimizer = defaults.optimizer(1e-5, warmup_steps=0)
  distillation.auxiliary.optimizer = defaults.optimizer(
    1e-5, warmup_steps=0, clip_norm=0.0
  )
  config.model.generator.update(
    dtype=dtype,
    remat=remat or ('none' if name == 'digits' else 'dots'),
    dropout=0.1 if dropout else 0.0,
  )
  if name == 'medium':
    config.model.generator.update(
      width=512, depth=12, num_heads=8, mlp_width=2048
    )
    config.model.tokenizer.hidden_channels = 32
  return Size(config.model, distillation, config.sampling)
