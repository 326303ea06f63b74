"""Text to image from scratch: rendered scenes, rewards, test-time optimisation.

  python -m softdimo_jax.main --config=configs/shapes.py --workdir=runs/shapes

Variants after a colon, joined by commas: `maskgen` (default), `meissonic`,
`ablations` (more stages from the same Di[M]O student), `tiny` (a minute, for
plumbing only).

Two virtual cores: 13 min 16 s, 3.35 GB. What it gives: docs/results.md.
`meissonic` was never trained at full length.
"""

from ml_collections import ConfigDict

from softdimo_jax import defaults
from softdimo_jax.data.shapes import vocabulary

VARIANTS = ('maskgen', 'meissonic', 'ablations', 'tiny')


def get_config(variants: str = 'maskgen') -> ConfigDict:
  """Configuration of the variants named, e.g. 'maskgen,ablations'."""
  names = variants.split(',')
  unknown = [name for name in names if name not in VARIANTS]
  if unknown:
    raise ValueError(
      f'variant {unknown[0]!r} of configs/shapes.py is unknown; choose from '
      f'{", ".join(VARIANTS)}'
    )
  config = _base('meissonic' if 'meissonic' in names else 'maskgen')
  if 'ablations' in names:
    _add_ablations(config)
  if 'tiny' in names:
    _shrink(config)
  return config


def _base(family: str) -> ConfigDict:
  return ConfigDict({
    'name': f'shapes:{family}',
    'seed': 0,
    'mesh': defaults.mesh(),
    'stages': (
      'tokenizer', 'clip', 'clip_held_out', 'teacher', 'preference',
      'preference_held_out', 'dimo', 'softdimo', 'reward_only',
    ),
    'data': {
      'name': 'shapes',
      'seed': 0,
      'num_examples': 32_768,
      'world': {'grid': 4, 'cell': 8, 'mention_color': 0.6},
      # Whose text tower reads the prompts of the generator.
      'text_stage': 'clip',
    },
    'model': _model(family),
    'image_tower': {
      'resolution': 32,
      'patch': 8,
      'width': 64,
      'depth': 2,
      'num_heads': 2,
      'mlp_width': 128,
      'projection_width': 64,
      'activation': 'quick_gelu',
      'unroll': 2,
    },
    # A batch must show every object: the code of one that it does not show
    # counts as unused.
    'tokenizer': defaults.tokenizer(
      3e-3,
      steps=800,
      batch_size=192,
      ema_decay=0.99,
      restart_steps=500,
      restart_power=2.0,
      optimizer={'warmup_steps': 50, 'final_ratio': 0.05},
    ),
    'clip': defaults.contrastive(2e-3),
    'clip_held_out': defaults.contrastive(2e-3),
    'teacher': defaults.teacher(
      1.5e-3,
      steps=2000,
      batch_size=64,
      ema_decay=0.99,
      mask_schedule='cosine',
      label_smoothing=0.0,
      masked_only=True,
      optimizer={
        'warmup_steps': 50,
        'final_ratio': 0.05,
        'weight_decay': 0.01,
        'b2': 0.98,
      },
    ),
    'preference': defaults.preference('clip', 1e-3),
    'preference_held_out': defaults.preference('clip_held_out', 1e-3),
    'dimo': _distillation('teacher', 5e-4, auxiliary=2e-3, steps=2500),
    'softdimo': _post_training(),
    'reward_only': _post_training(divergence={'weight': 0.0}),
    'sampling': {
      'temperature': 1.0,
      'steps': 16,
      'guidance_scale': 3.0,
      'plan': {
        'name': 'maskgit',
        'order': 'confidence',
        'choice_temperature': 2.0,
        'schedule': 'cosine',
        'guidance_schedule': 'constant',
      },
    },
    # The composite score that test-time optimisation ascends and selects by.
    # The paper's rate of .2 moves embeddings of this size hardly at all.
    'tteo': {
      'learning_rate': 20.0,
      'batch_size': 256,  # starts at once
      'terms': {'clip': 5.0, 'preference': 1.0},
    },
    'evaluation': {
      'per_category': 96,
      'batch_size': 576,
      'teacher_steps': (1, 4, 16),
      'guidance_scales': (1.0, 2.0, 3.0),
      'tteo': {
        'stages': ('dimo', 'softdimo', 'reward_only'),
        'starts': 1,
        'steps': 10,
      },
    },
    'loop': {'log_every': 50, 'checkpoint_every': 500, 'max_skipped': 50},
  })  # fmt: skip


_GENERATORS = {
  'maskgen': {
    'num_classes': 0,
    'length': 16,
    'depth': 4,
    'micro_width': 0,
    'unroll': 3,
  },
  'meissonic': {
    'spare_rows': 0,
    'grid': (4, 4),
    'downsample': False,
    'joint_depth': 2,
    'single_depth': 2,
    'rope_axes': (8, 12, 12),
    'unroll': 2,
  },
}
# Of Meissonic: width, height, two offsets of the crop, aesthetic score.
_MICRO = {'maskgen': (), 'meissonic': (32.0, 32.0, 0.0, 0.0, 6.0)}


def _model(family: str) -> ConfigDict:
  return ConfigDict(
    {
      'generator': {
        'name': family,
        'vocab_size': 64,
        'width': 64,
        'num_heads': 2,
        'mlp_width': 128,
        'text_width': 64,
        **_GENERATORS[family],
      },
      'micro': _MICRO[family],
      'tokenizer': {
        'name': 'patch_vq',
        'patch': 8,
        'hidden': 128,
        'codebook_size': 64,
        'embedding_dim': 8,
      },
      'text': {
        'vocab_size': vocabulary.SIZE,
        'length': vocabulary.MAX_LENGTH,
        'width': 64,
        'depth': 2,
        'num_heads': 2,
        'mlp_width': 128,
        'projection_width': 64,
        'activation': 'quick_gelu',
        'unroll': 2,
      },
    }
  )


def _distillation(
  start: str, learning_rate: float, *, auxiliary: float, steps: int
) -> ConfigDict:
  decay = {'decay': 'linear', 'final_ratio': 0.1, 'warmup_steps': 50}
  return defaults.distillation(
    start,
    learning_rate,
    steps=steps,
    batch_size=64,
    ema_decay=0.99,
    dropout=False,
    guidance_scale=2.0,
    init={'mask_ratio': 0.3, 'noise_scale': 0.5},
    mask={'schedule': 'cosine'},
    auxiliary={
      'fresh_sample': False,
      'label_smoothing': 0.0,
      'optimizer': {'learning_rate': auxiliary, 'clip_norm': 0.0},
    },
    gan={'taps': (1, 3), 'width': 64},
    optimizer=decay,
  )


def _post_training(**changes: dict) -> ConfigDict:
  config = _distillation('dimo', 8e-4, auxiliary=2e-3, steps=1200)
  config.reward.weight = 8.0
  config.reward.terms = ConfigDict({'clip': 5.0, 'preference': 1.0})
  config.update(changes)
  return config


def _add_ablations(config: ConfigDict) -> None:
  config.continued_dimo = config.softdimo.copy_and_resolve_references()
  config.continued_dimo.reward.weight = 0.0
  config.stages += ('continued_dimo',)


def _shrink(config: ConfigDict) -> None:
  """Too short to learn anything: for tests of the machinery."""
  dropped = ('clip_held_out', 'preference_held_out', 'reward_only')
  config.stages = tuple(x for x in config.stages if x not in dropped)
  config.evaluation.tteo.stages = ('softdimo',)
  for name in config.stages:
    config[name].steps = 20
    config[name].batch_size = 16
    config[name].optimizer.warmup_steps = 2
    if config[name].kind == 'preference':
      config[name].num_examples = 64
      config[name].teacher_steps = (1,)
  for section in (
    config.model.generator,
    config.model.text,
    config.image_tower,
  ):
    section.unroll = 1  # compiles faster
  config.data.num_examples = 256
  config.evaluation.per_category = 4
  config.evaluation.batch_size = 24
  config.evaluation.teacher_steps = (4,)
  config.evaluation.guidance_scales = (2.0,)
  config.evaluation.tteo.steps = 2
  config.loop.log_every = 5
  config.loop.checkpoint_every = 10
