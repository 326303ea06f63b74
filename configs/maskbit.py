"""MaskBit (14 bits), ImageNet 256: Di[M]O, then Soft-Di[M]O with the GAN.

  python -m softdimo_jax.main --config=configs/maskbit.py --workdir=DIR \
      --config.pretrained.teacher=TEACHER \
      --config.pretrained.tokenizer=TOKENIZER --config.data.tokens=CACHE

TEACHER and TOKENIZER are folders of `python -m softdimo_jax.convert`, CACHE one
of `python -m softdimo_jax.tokenize_dataset`; docs/imagenet.md has the commands.
`--config.weights=rule` runs the same steps with made-up weights and tokens.

Variants after a colon: `dimo` and `gan` (one stage each; the default is both in
a row), `gan_long` (the paper's long schedule); `tokenizer` and `teacher` train
these from scratch. The GAN stage alone starts from `--config.pretrained.dimo`.

Settings: MaskBit's published ones for the teacher; of the distillation, what
the papers leave open is this project's choice. Metric to expect from the
papers: Soft-Di[M]O one-step FID 1.56 with the long schedule (teacher 1.66 in
64 steps). Hardware: 8 accelerators or more at these batch sizes. None of it
was run at full length here: docs/results.md says what was.
"""

from ml_collections import ConfigDict

from softdimo_jax import defaults

VARIANTS = ('all', 'dimo', 'gan', 'gan_long', 'tokenizer', 'teacher')


def get_config(variant: str = 'all') -> ConfigDict:
  """Configuration of a variant."""
  if variant not in VARIANTS:
    raise ValueError(
      f'variant {variant!r} of configs/maskbit.py is unknown; choose from '
      f'{", ".join(VARIANTS)}'
    )
  config = _base()
  config.stages = {
    'all': ('dimo', 'softdimo'),
    'dimo': ('dimo',),
    'gan': ('softdimo',),
    'gan_long': ('softdimo',),
    'tokenizer': ('tokenizer',),
    'teacher': ('teacher',),
  }[variant]
  if variant == 'gan_long':
    config.softdimo.gan.weight = 200.0
    config.softdimo.optimizer.learning_rate = 5e-7
    config.softdimo.optimizer.weight_decay = 0.01
  return config


def _base() -> ConfigDict:
  return ConfigDict({
    'name': 'maskbit',
    'seed': 0,
    'mesh': defaults.mesh(),
    'stages': (),
    'weights': 'converted',
    'pretrained': {'tokenizer': '', 'teacher': '', 'dimo': ''},
    'data': {
      # An image folder or a TFDS data set, read by the stage `tokenizer` only.
      'name': 'imagenet2012',
      'dir': '',
      'split': '',
      'augment': 'maskbit',
      'tokens': '',
    },
    'model': {'generator': _generator(), 'tokenizer': _tokenizer()},
    'tokenizer': defaults.tokenizer(1e-4),
    'teacher': defaults.teacher(1e-4),
    'dimo': defaults.distillation('teacher', 1e-5, guidance_scale=2.5),
    'softdimo': defaults.distillation(
      'dimo', 1e-6, guidance_scale=2.5, gan={'weight': 50.0, 'width': 256}
    ),
    'sampling': {
      # One step: to be swept; 1 is the untouched student.
      'temperature': 1.0,
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
    'loop': {'log_every': 100, 'checkpoint_every': 1000, 'max_skipped': 50},
  })  # fmt: skip


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
