"""The whole method on CIFAR-10: 32x32 colour images, 8x8 tokens.

  python -m softdimo_jax.main --config=configs/cifar10.py --workdir=runs/cifar10

This reads TFDS's `cifar10` (array_record) from `--config.data.dir`, by default
from TFDS's own folder. For one GPU: about 20 minutes expected, never measured.

Variants after a colon, joined by commas: `cpu`, a short version for two cores
(measured: 16 minutes, 8.6 GB, FID 962 for the teacher in 32 steps, students
hardly trained; see docs/results.md); `maskbit` (bits instead of a codebook);
`ablations`; `tiny` (one minute, only to test the machinery).
"""

from ml_collections import ConfigDict

from softdimo_jax import defaults


def get_config(variants: str = 'maskgit') -> ConfigDict:
  """Configuration of the named variants, e.g. 'maskbit,cpu'."""
  family, ablations, cpu, tiny = defaults.choose(
    'configs/cifar10.py',
    variants,
    (('maskgit', 'maskbit'), 'maskgit'),
    (('ablations',), ''),
    (('cpu',), ''),
    (('tiny',), ''),
  )
  config = _base(family)
  if ablations:
    defaults.add_stages(config, defaults.CONTROLS)
  if cpu or tiny:
    _shrink(config)
  if tiny:
    _shorten(config)
  return config


def _base(family: str) -> ConfigDict:
  return defaults.experiment(
    name=f'cifar10:{family}',
    stages=('features', 'judge', 'tokenizer', 'teacher', 'dimo', 'softdimo'),
    data={
      'name': 'cifar10',
      'dir': '',
      'train_split': 'train',
      'held_out_split': 'test',
    },
    model=_maskbit() if family == 'maskbit' else _maskgit(),
    classifier={
      'num_classes': 10,
      'feature_width': 64,
      'widths': (64, 128, 256),
    },
    features=defaults.classifier(seed=1000, steps=4000),
    judge=defaults.classifier(seed=2000, steps=4000),
    tokenizer=defaults.tokenizer(
      1e-3,
      steps=8000,
      batch_size=128,
      restart_steps=4000,
      optimizer={'warmup_steps': 200},
    ),
    teacher=defaults.teacher(
      5e-4,
      steps=20_000,
      batch_size=256,
      label_smoothing=0.0,
      optimizer={'warmup_steps': 500, 'weight_decay': 0.01},
    ),
    dimo=_distillation('teacher', steps=10_000),
    softdimo=_distillation('dimo', steps=4000, gan_weight=30.0),
    sampling=defaults.random_order(steps=64),
    evaluation=defaults.evaluation(
      num_images=10_000,
      seeds=1,
      batch_size=1000,
      teacher_steps=(1, 4, 8, 16, 64),
      guidance_scales=(1.0, 2.0),
    ),
  )


def _maskgit() -> dict:
  return {
    'generator': {
      'name': 'maskgit',
      'vocab_size': 512,
      'num_classes': 10,
      'length': 64,
      'width': 384,
      'depth': 8,
      'num_heads': 6,
      'mlp_width': 1536,
      'dropout': 0.0,
      'table_scale': 0.05,
      'dtype': 'bfloat16',
      'unroll': 1,
    },
    'tokenizer': {
      'name': 'taming_vqgan',
      'in_channels': 3,
      'resolution': 32,
      'hidden_channels': 64,
      'channel_multipliers': (1, 2, 2),
      'num_res_blocks': 1,
      'attention_resolutions': (),
      'latent_channels': 64,
      'codebook_size': 512,
      'embedding_dim': 16,
      'num_norm_groups': 16,
    },
  }


def _maskbit() -> dict:
  model = _maskgit()
  for field in ('vocab_size', 'table_scale'):
    del model['generator'][field]
  model['generator'] |= {'name': 'maskbit', 'num_bits': 12, 'num_groups': 2}
  model['tokenizer'] = {
    'name': 'maskbit',
    'in_channels': 3,
    'hidden_channels': 64,
    'channel_multipliers': (1, 2, 2),
    'num_res_blocks': 1,
    'embedding_dim': 12,
    'num_groups': 2,
    'num_norm_groups': 16,
  }
  return model


def _distillation(
  start: str, *, steps: int, gan_weight: float = 0.0
) -> ConfigDict:
  return defaults.small_distillation(
    start,
    1e-4,
    auxiliary_rate=5e-4,
    steps=steps,
    batch_size=256,
    ema_decay=0.999,
    guidance_scale=1.0,
    gan={
      'weight': gan_weight,
      'fakes': 'hard',
      'taps': (1, 3, 5, 7),
      'delay_steps': 200,
      'ramp_steps': 200,
      'optimizer': {'learning_rate': 1e-3},
    },
  )


def _shrink(config: ConfigDict) -> None:
  """Small networks and short stages for two cores."""
  config.data.train_split = 'train[:10000]'
  config.data.held_out_split = 'test[:2000]'
  config.classifier.widths = (32, 64, 64)
  generator, tokenizer = config.model.generator, config.model.tokenizer
  generator.update(
    {'width': 128, 'depth': 4, 'num_heads': 4, 'mlp_width': 256, 'unroll': 4}
  )
  generator.dtype = 'float32'
  tokenizer.hidden_channels = 16
  tokenizer.num_norm_groups = 8
  lengths = {
    'features': 400, 'judge': 400, 'tokenizer': 600, 'teacher': 800,
    'dimo': 400,
  }  # fmt: skip
  for name in config.stages:
    stage = config[name]
    stage.steps = lengths.get(name, 150)
    stage.batch_size = 32 if stage.kind == 'distill' else 64
    stage.optimizer.warmup_steps = 50
    if stage.kind == 'tokenizer':
      stage.restart_steps = 400
    if stage.kind == 'distill':
      stage.ema_decay = 0.99
      stage.optimizer.learning_rate = 3e-4
      stage.gan.taps = (0, 1, 2, 3)
      stage.gan.delay_steps = stage.gan.ramp_steps = 30
  config.evaluation.update(
    {'num_images': 1000, 'batch_size': 250, 'teacher_steps': (1, 8, 32)}
  )
  config.evaluation.guidance_scales = (1.0,)


def _shorten(config: ConfigDict) -> None:
  """Too short to learn anything: only to test the machinery."""
  config.data.train_split = 'train[:200]'
  config.data.held_out_split = 'test[:100]'
  for name in config.stages:
    config[name].steps = 6
    config[name].batch_size = 16
  config.evaluation.update(
    {'num_images': 100, 'batch_size': 100, 'teacher_steps': (1, 8)}
  )
