"""The whole method on scikit-learn's real handwritten digits.

  python -m softdimo_jax.main --config=configs/digits.py --workdir=runs/digits

Variants after a colon, joined by commas: `maskbit` (bits instead of a
codebook), `ablations` and `search` (more stages from the same Di[M]O student, 2
and 7), `tiny` (a minute, for plumbing only).

Hardware, time and the metrics to expect: docs/results.md.
"""

from ml_collections import ConfigDict

from softdimo_jax import defaults

VARIANTS = ('maskgit', 'maskbit', 'ablations', 'search', 'tiny')


def get_config(variants: str = 'maskgit') -> ConfigDict:
  """Configuration of the variants named, e.g. 'maskbit,ablations'."""
  names = variants.split(',')
  unknown = [name for name in names if name not in VARIANTS]
  if unknown:
    raise ValueError(
      f'variant {unknown[0]!r} of configs/digits.py is unknown; choose from '
      f'{", ".join(VARIANTS)}'
    )
  config = _base('maskbit' if 'maskbit' in names else 'maskgit')
  if 'search' in names:
    _add_stages(config, _SEARCH)
  elif 'ablations' in names:
    _add_stages(config, _ABLATIONS)
    config.evaluation.teacher_steps = (1, 2, 4, 8, 16)
  if 'tiny' in names:
    _shrink(config)
  return config


def _base(family: str) -> ConfigDict:
  return ConfigDict({
    'name': f'digits:{family}',
    'seed': 0,
    'mesh': defaults.mesh(),
    # In this order; each names a section below, with its folder in the workdir.
    'stages': (
      'features', 'judge', 'tokenizer', 'teacher', 'dimo', 'softdimo',
    ),
    'data': {'name': 'digits', 'held_out': 360},
    'model': _maskbit() if family == 'maskbit' else _maskgit(),
    'classifier': {'num_classes': 10, 'feature_width': 64},
    # One feature space and one judge for every seed of the run.
    'features': defaults.classifier(seed=1000),
    'judge': defaults.classifier(seed=2000),
    'tokenizer': defaults.tokenizer(
      2e-3,
      steps=1000,
      batch_size=64,
      ema_decay=0.99,
      restart_steps=560,
      optimizer={'warmup_steps': 100, 'final_ratio': 0.05},
    ),
    'teacher': defaults.teacher(
      2e-3,
      steps=2000,
      batch_size=128,
      ema_decay=0.998,
      label_smoothing=0.0,
      masked_only=True,
      optimizer={
        'warmup_steps': 100,
        'final_ratio': 0.02,
        'weight_decay': 0.01,
        'b2': 0.999,
        'clip_norm': 0.0,
      },
    ),
    'dimo': _distillation('teacher', 5e-4, auxiliary=3e-3, steps=2200),
    'softdimo': _post_training(),
    'sampling': {
      'temperature': 1.0,
      # The teacher's decoding; in random order it follows its conditionals.
      'steps': 16,
      'guidance_scale': 1.0,
      'plan': {
        'name': 'maskgit',
        'order': 'random',
        'schedule': 'arccos',
        'guidance_schedule': 'constant',
      },
    },
    'evaluation': {
      'num_images': 1440,
      'seeds': 2,
      'batch_size': 720,
      'teacher_steps': (1, 4, 16),
      'guidance_scales': (1.0, 1.5),
    },
    'loop': {'log_every': 50, 'checkpoint_every': 500, 'max_skipped': 50},
  })  # fmt: skip


def _maskgit() -> ConfigDict:
  return ConfigDict(
    {
      'generator': {
        'name': 'maskgit',
        'vocab_size': 32,
        'num_classes': 10,
        'length': 16,
        'width': 64,
        'depth': 3,
        'num_heads': 4,
        'mlp_width': 128,
        'dropout': 0.0,
        'table_scale': 0.125,
        'unroll': 3,
      },
      'tokenizer': {
        'name': 'taming_vqgan',
        'in_channels': 1,
        'resolution': 8,
        'hidden_channels': 16,
        'channel_multipliers': (1, 2),
        'num_res_blocks': 1,
        'attention_resolutions': (),
        'latent_channels': 32,
        'codebook_size': 32,
        'embedding_dim': 8,
        'num_norm_groups': 8,
      },
    }
  )


def _maskbit() -> ConfigDict:
  return ConfigDict(
    {
      'generator': {
        'name': 'maskbit',
        'num_bits': 6,
        'num_groups': 2,
        'num_classes': 10,
        'length': 16,
        'width': 64,
        'depth': 3,
        'num_heads': 4,
        'mlp_width': 128,
        'dropout': 0.0,
        'unroll': 3,
      },
      'tokenizer': {
        'name': 'maskbit',
        'in_channels': 1,
        'hidden_channels': 16,
        'channel_multipliers': (1, 2),
        'num_res_blocks': 1,
        'embedding_dim': 6,
        'num_groups': 2,
        'num_norm_groups': 8,
      },
    }
  )


def _distillation(
  start: str, learning_rate: float, *, auxiliary: float, steps: int
) -> ConfigDict:
  # The raw student of a constant rate is far worse than its average, and the
  # GAN judges the raw one: let it settle.
  decay = {'decay': 'linear', 'final_ratio': 0.05}
  return defaults.distillation(
    start,
    learning_rate,
    steps=steps,
    # At 64 some teachers' students fall back to a factorised distribution.
    batch_size=128,
    ema_decay=0.998,
    dropout=False,
    guidance_scale=1.0,
    init={'mask_ratio': 0.6, 'noise_scale': 0.02},
    auxiliary={
      'fresh_sample': False,
      'label_smoothing': 0.0,
      'optimizer': {
        'learning_rate': auxiliary,
        'decay': 'linear',
        'final_ratio': 0.3,
        'clip_norm': 0.0,
      },
    },
    gan={
      'fakes': 'hard',
      'taps': (0, 1, 2),
      'width': 128,
      'delay_steps': 100,
      'ramp_steps': 100,
      'optimizer': {'learning_rate': 3e-3},
    },
    optimizer=decay,
  )


def _post_training() -> ConfigDict:
  config = _distillation('dimo', 1.5e-4, auxiliary=1e-3, steps=800)
  config.gan.weight = 30.0
  return config


# Post-training from the same Di[M]O student, as long as `softdimo`.
_ABLATIONS = {
  'continued_dimo': {'gan': {'weight': 0.0}},
  'gan_only': {'divergence': {'weight': 0.0}},
}
_SEARCH = {
  'continued_dimo': _ABLATIONS['continued_dimo'],
  # The paper's own choice: the heads learn on what they judge.
  'soft_fakes': {'gan': {'fakes': 'soft'}},
  'gumbel': {'gan': {'relaxation': 'gumbel'}},
  'weak': {'gan': {'weight': 5.0}},
  'strong': {'gan': {'weight': 100.0}},
  # The heads alone: do they tell soft from one-hot, or are they weak?
  'frozen_soft_fakes': {
    'gan': {'fakes': 'soft'},
    'optimizer': {'learning_rate': 1e-12},
  },
  'frozen_hard_fakes': {'optimizer': {'learning_rate': 1e-12}},
}


def _add_stages(config: ConfigDict, changes: dict[str, dict]) -> None:
  for name, change in changes.items():
    config[name] = config.softdimo.copy_and_resolve_references()
    config[name].update(change)
  config.stages += tuple(changes)


def _shrink(config: ConfigDict) -> None:
  """Too short to learn anything: for tests of the machinery."""
  for name in config.stages:
    config[name].steps = 20
    config[name].batch_size = 16
    config[name].optimizer.warmup_steps = 2
  config.model.generator.unroll = 1  # compiles faster
  config.evaluation.num_images = 100
  config.evaluation.batch_size = 100
  config.evaluation.seeds = 1
  config.evaluation.teacher_steps = (1, 4)
  config.evaluation.guidance_scales = (1.0,)
  config.loop.log_every = 5
  config.loop.checkpoint_every = 10
