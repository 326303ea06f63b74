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
    'tokenizer': {
      'kind': 'tokenizer',
      'steps': 600_000,
      'batch_size': 256,
      'ema_decay': 0.999,
      'commitment_weight': 0.25,
      'entropy_weight': 0.02,  # bits only
      'restart_steps': 10_000,  # codebook only
      'optimizer': _optimizer(1e-4, warmup_steps=5000, decay='cosine'),
    },
    'teacher': {
      'kind': 'teacher',
      'steps': 755_200,
      'batch_size': 512,
      'ema_decay': 0.9999,
      'mask_schedule': 'arccos',
      'label_dropout': 0.1,
      'label_smoothing': 0.1,
      'masked_only': False,
      'optimizer': _optimizer(
        1e-4,
        warmup_steps=2500,
        weight_decay=1e-5,
        b2=0.96,
        clip_norm=1.0,
      ),
    },
    'dimo': _distillation('teacher', learning_rate=1e-5),
    'softdimo': _distillation('dimo', learning_rate=1e-6, gan_weight=50.0),
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


def _distillation(
  start: str, *, learning_rate: float, gan_weight: float = 0.0
) -> dict:
  return {
    'kind': 'distill',
    'start': start,
    'steps': 50_000,
    'batch_size': 128,
    'ema_decay': 0.9999,
    # The official code leaves the teacher in training mode, too.
    'dropout': True,
    'teacher_dropout': False,
    'temperature': 1.0,
    'guidance_scale': 2.0,
    'init': {'mask_ratio': 0.6, 'noise_scale': 0.1},
    'mask': {'schedule': 'arccos', 'low': 0.0, 'high': 1.0},
    'divergence': {'weight': 1.0, 'beta': 0.0, 'reduction': 'sum'},
    'auxiliary': {
      'fresh_sample': True,
      'label_smoothing': 0.1,
      'optimizer': _optimizer(learning_rate, clip_norm=1.0),
    },
    'gan': {
      'weight': gan_weight,
      'loss': 'logistic',
      'relaxation': 'soft',
      'fakes': 'soft',
      'temperature': 1.0,
      'max_mask_ratio': 0.95,
      'r1_weight': 0.0,
      'taps': (5, 11, 17, 23),
      'width': 192,
      'delay_steps': 0,
      'ramp_steps': 0,
      'optimizer': _optimizer(1e-4, warmup_steps=0),
    },
    'optimizer': _optimizer(learning_rate, clip_norm=1.0),
  }


def _optimizer(
  learning_rate: float,
  *,
  warmup_steps: int = 100,
  decay: str = 'constant',
  final_ratio: float = 0.1,
  weight_decay: float = 0.0,
  b2: float = 0.999,
  clip_norm: float = 0.0,
) -> dict:
  return {
    'learning_rate': learning_rate,
    'warmup_steps': warmup_steps,
    'decay': decay,
    'final_ratio': final_ratio,
    'b1': 0.9,
    'b2': b2,
    'eps': 1e-8,
    'weight_decay': weight_decay,
    'clip_norm': clip_norm,
  }
