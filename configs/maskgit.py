"""MaskGit, ImageNet 256: Di[M]O, then Soft-Di[M]O with the GAN.

  python -m softdimo_jax.main --config=configs/maskgit.py --workdir=DIR \
      --config.pretrained.teacher=TEACHER \
      --config.pretrained.tokenizer=TOKENIZER --config.data.tokens=CACHE

TEACHER and TOKENIZER are folders of `python -m softdimo_jax.convert`, CACHE one
of `python -m softdimo_jax.tokenize_dataset`; docs/imagenet.md has the commands.
`--config.weights=rule` runs the same steps with made-up weights and tokens.

Variants after a colon: `dimo` and `gan` (one stage each; the default is both in
a row), `gan_long` (the paper's long schedule); `tokenizer` and `teacher` train
these from scratch. The GAN stage alone starts from `--config.pretrained.dimo`.

Settings: Di[M]O's published ones; what Soft-Di[M]O leaves open is this
project's choice. Metric to expect from the papers: Di[M]O one-step FID 6.91
(its teacher 6.60). Hardware: 8 accelerators or more at these batch sizes. None
of it was run at full length here: docs/results.md says what was.
"""

from ml_collections import ConfigDict

from softdimo_jax import defaults

VARIANTS = ('all', 'dimo', 'gan', 'gan_long', 'tokenizer', 'teacher')


def get_config(variant: str = 'all') -> ConfigDict:
  """Configuration of a variant."""
  if variant not in VARIANTS:
    raise ValueError(
      f'variant {variant!r} of configs/maskgit.py is unknown; choose from '
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
    'name': 'maskgit',
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
      'augment': 'maskgit',
      'tokens': '',
    },
    'model': {'generator': _generator(), 'tokenizer': _tokenizer()},
    'tokenizer': defaults.tokenizer(1e-4),
    'teacher': defaults.teacher(
      1e-4,
      steps=755_200,
      batch_size=512,
      ema_decay=0.9999,
      optimizer={
        'warmup_steps': 2500,
        'decay': 'constant',
        'weight_decay': 1e-5,
      },
    ),
    'dimo': defaults.distillation('teacher', 1e-5),
    'softdimo': defaults.distillation('dimo', 1e-6, gan={'weight': 50.0}),
    'sampling': {
      # One step: 7 for FID, lower for a higher Inception Score.
      'temperature': 7.0,
      # The teacher's published sampler.
      'steps': 8,
      'guidance_scale': 4.0,
      'plan': {
        'name': 'maskgit',
        'order': 'confidence',
        'schedule': 'arccos',
        'guidance_schedule': 'linear',
        'choice_temperature': 4.5,
      },
    },
    'loop': {'log_every': 100, 'checkpoint_every': 1000, 'max_skipped': 50},
  })  # fmt: skip


def _generator() -> dict:
  return {
    'name': 'maskgit',
    'vocab_size': 1024,
    'num_classes': 1000,
    'length': 256,
    'width': 768,
    'depth': 24,
    'num_heads': 16,
    'mlp_width': 3072,
    'dropout': 0.1,
    'dtype': 'bfloat16',
    'remat': 'full',
  }


def _tokenizer() -> dict:
  return {
    'name': 'taming_vqgan',
    'in_channels': 3,
    'resolution': 256,
    'hidden_channels': 128,
    'channel_multipliers': (1, 1, 2, 2, 4),
    'num_res_blocks': 2,
    'attention_resolutions': (16,),
    'latent_channels': 256,
    'codebook_size': 1024,
    'embedding_dim': 256,
  }
