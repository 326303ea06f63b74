"""MaskBit (14 bits), ImageNet 256: Di[M]O, then Soft-Di[M]O with the GAN.

  python -m softdimo_jax.main --config=configs/maskbit.py --workdir=DIR \
      --config.pretrained.teacher=TEACHER \
      --config.pretrained.tokenizer=TOKENIZER --config.data.tokens=CACHE

TEACHER and TOKENIZER are folders written by `python -m softdimo_jax.convert`,
CACHE is one written by `python -m softdimo_jax.tokenize_dataset`;
docs/imagenet.md has the commands. `--config.weights=rule` runs the same steps
with synthetic weights and tokens.

Variants after a colon: `dimo` and `gan` (one stage each; the default runs both
in turn), `gan_long` (the paper's long schedule); `tokenizer` and `teacher`
train these from scratch. The GAN stage alone starts from
`--config.pretrained.dimo`.

Settings: the published ones for the teacher; this project's choice where the
papers leave the distillation open. Expected from the papers: one-step FID 1.56
for Soft-Di[M]O with the long schedule (teacher 1.66 in 64 steps). Hardware: 8
accelerators or more at these batch sizes. Nothing was run at full length here:
docs/results.md says what was run.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from softdimo_jax import defaults


def get_config(variant: str = 'all') -> ConfigDict:
  """Configuration of a variant."""
  return defaults.imagenet(
    'maskbit',
    variant,
    model={'generator': _generator(), 'tokenizer': _tokenizer()},
    teacher=defaults.teacher(1e-4),
    dimo=_distillation('teacher', 1e-5),
    softdimo=_distillation('dimo', 1e-6, gan={'weight': 50.0, 'width': 256}),
    sampling={
      # For one step: as in training; has not been tuned.
      'temperature': placeholder(float),
      # The teacher's published sampler.
      'steps': 64,
      'guidance_scale': 8.1,
      'plan': {
        'name': 'maskbit',
        'schedule': 'arccos',
        'guidance_schedule': 'cosine',
        'guidance_power': 3.0,
        'choice_temperature': 7.8,
      },
    },
  )


def _distillation(
  start: str, learning_rate: float, **changes: Any
) -> ConfigDict:
  return defaults.distillation(
    start,
    learning_rate,
    guidance_scale=2.5,
    # The table is initialised at .02: noise of unit variance would drown it.
    init={'noise_unit': 'table'},
    **defaults.OFFICIAL_ADAM,
    **changes,
  )


def _generator() -> dict:
  return {
    'name': 'maskbit',
    'num_bits': 14,
    'num_groups': 2,
    'num_classes': 1000,
    'length': 256,
    'width': 1024,
    'depth': 24,
    'num_heads': 16,
    'mlp_width': 4096,
    'dropout': 0.1,
    'dtype': 'bfloat16',
    'remat': 'full',
  }


def _tokenizer() -> dict:
  return {
    'name': 'maskbit',
    'in_channels': 3,
    'hidden_channels': 128,
    'channel_multipliers': (1, 1, 2, 2, 4),
    'num_res_blocks': 2,
    'embedding_dim': 14,
    'num_groups': 2,
  }
