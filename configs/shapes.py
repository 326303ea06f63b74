"""Text to image from scratch: rendered scenes, rewards, test-time optimisation.

  python -m softdimo_jax.main --config=configs/shapes.py --workdir=runs/shapes

Variants after a colon, joined by commas: `maskgen` (default), `meissonic`,
`ablations` (the paper's comparisons: further stages from the same Di[M]O
student, and rewards that no stage optimises), `tiny` (one minute, only to test
the machinery).

Results: docs/results.md. `meissonic` was never trained at full length.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from softdimo_jax import defaults
from softdimo_jax.data.shapes import vocabulary


def get_config(variants: str = 'maskgen') -> ConfigDict:
  """Configuration of the named variants, e.g. 'maskgen,ablations'."""
  family, ablations, tiny = defaults.choose(
    'configs/shapes.py',
    variants,
    (_GENERATORS, 'maskgen'),
    (('ablations',), ''),
    (('tiny',), ''),
  )
  config = _base(family)
  if ablations:
    defaults.add_stages(config, _ABLATIONS)
    config.stages += ('clip_held_out', 'preference_held_out')
    config.evaluation.teacher_steps = (1, 3, 9)
    config.evaluation.guidance_scales = (1.0, 1.5, 2.0, 3.0)
  elif tiny:  # One reward stage tests the machinery.
    config.stages = config.stages[:-1]
  if tiny:
    _shrink(config)
  return config


def _base(family: str) -> ConfigDict:
  return defaults.experiment(
    name=f'shapes:{family}',
    stages=(
      'tokenizer',
      'clip',
      'teacher',
      'preference',
      'dimo',
      'softdimo',
      'reward_only',
    ),
    data={
      'name': 'shapes',
      'seed': 0,
      'num_examples': 32_768,
      'world': _WORLD,
      # The stage whose text tower reads the generator's prompts.
      'text_stage': 'clip',
    },
    model=_model(family),
    image_tower={'resolution': 36, 'patch': 12, **_TOWER},
    **_stages(),
    sampling={
      'temperature': placeholder(float),
      'steps': 9,
      'guidance_scale': 2.0,
      'plan': {
        'name': 'maskgit',
        'order': 'confidence',
        'choice_temperature': 2.0,
        'schedule': 'cosine',
        'guidance_schedule': 'constant',
      },
    },
    # Test-time optimisation ascends this composite score and selects by it.
    # The paper's rate of 0.2 hardly moves embeddings of this size.
    tteo={
      'learning_rate': 20.0,
      'batch_size': 256,  # starting points at once
      'terms': _TERMS,
    },
    evaluation=defaults.evaluation(
      per_category=96,
      batch_size=96,
      teacher_steps=(1, 9),
      # That of the distillation, and the teacher's best.
      guidance_scales=(1.0, 2.0),
      tteo={'stages': ('softdimo',), 'starts': 16, 'steps': 4},
      every=250,
      curve_images=576,
    ),
    # Rewards are hacked sooner or later; the judge, which no stage optimises,
    # stops them on prompts of its own.
    loop=defaults.loop(log_every=50, checkpoint_every=500, keep_best='exact'),
  )


def _stages() -> dict[str, ConfigDict]:
  return {
    # A batch must show every object: the code of a missing one would count as
    # unused.
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
      exact_count=True,
      unmasked_weight=0.1,
      optimizer={
        'warmup_steps': 50,
        'final_ratio': 0.05,
        'weight_decay': 0.01,
        'b2': 0.98,
      },
    ),
    # Losers without guidance err as students do: an object too many or too few.
    'preference': defaults.preference('clip', 1e-3, guidance_scale=1.0),
    'preference_held_out': defaults.preference(
      'clip_held_out', 1e-3, guidance_scale=1.0
    ),
    # At temperature 1, the student leaves more open to chance, cell by cell.
    'dimo': _distillation('teacher', 1.5e-4, 3e-3, temperature=0.5),
    'softdimo': _post_training(),
    'reward_only': _post_training(divergence={'weight': 0.0}),
  }


# What a prompt leaves open, one step has to decide from its noise: the captions
# name every colour, and objects are centred in their cells and lie apart.
_WORLD = {
  'grid': 3,
  'cell': 12,
  'mention_color': 1.0,
  'offsets': ((0.0, 0.0),),
  'apart': True,
}
_TERMS = {'clip': 5.0, 'preference': 1.0}
# Of the text tower and of the image tower.
_TOWER = {
  'width': 64,
  'depth': 2,
  'num_heads': 2,
  'mlp_width': 128,
  'projection_width': 64,
  'activation': 'quick_gelu',
  'unroll': 2,
}
_GENERATORS = {
  'maskgen': {
    'num_classes': 0,
    'length': 9,
    'depth': 4,
    'micro_width': 0,
    'unroll': 3,
  },
  'meissonic': {
    'spare_rows': 0,
    'grid': (3, 3),
    'downsample': False,
    'joint_depth': 2,
    'single_depth': 2,
    'rope_axes': (8, 12, 12),
    'unroll': 2,
  },
}
# Meissonic reads width, height, two crop offsets and an aesthetic score.
_MICRO = {'maskgen': (), 'meissonic': (32.0, 32.0, 0.0, 0.0, 6.0)}


def _model(family: str) -> dict[str, Any]:
  return {
    'generator': {
      'name': family,
      'vocab_size': 32,
      'width': 64,
      'num_heads': 2,
      'mlp_width': 128,
      'text_width': 64,
      **_GENERATORS[family],
    },
    'micro': _MICRO[family],
    'tokenizer': {
      'name': 'patch_vq',
      'patch': 12,
      'hidden': 128,
      'codebook_size': 32,
      'embedding_dim': 8,
    },
    'text': {
      'vocab_size': vocabulary.SIZE,
      'length': vocabulary.MAX_LENGTH,
      **_TOWER,
    },
  }


def _distillation(
  start: str,
  learning_rate: float,
  auxiliary_rate: float,
  *,
  temperature: float,
  **changes: Any,
) -> ConfigDict:
  return defaults.small_distillation(
    start,
    learning_rate,
    auxiliary_rate=auxiliary_rate,
    steps=1000,
    batch_size=64,
    ema_decay=0.995,
    # Guidance counts objects twice: a guided step draws several for one.
    guidance_scale=1.0,
    temperature=temperature,
    # One visible token, and noise that leaves it readable.
    init={'mask_ratio': 0.9375, 'noise_scale': 0.1, 'noise_unit': 'table'},
    mask={'schedule': 'cosine'},
    gan={
      'taps': (1, 3),
      'width': 64,
      'optimizer': {'learning_rate': 3e-3},
    },
    optimizer={'decay': 'linear', 'warmup_steps': 50},
    **changes,
  )


def _post_training(**changes: Any) -> ConfigDict:
  # Almost one-hot tokens pass no gradient on. At temperature 1 they are less
  # so, and at this rate a wrong one still turns within a few hundred steps.
  config = _distillation(
    'dimo', 6e-4, 2e-3, temperature=1.0, reward={'weight': 8.0}, **changes
  )
  config.reward.terms = ConfigDict(_TERMS)
  return config


# Further post-training stages, as long as `softdimo`.
_ABLATIONS = {
  # At the temperature and rate of its start: at those of the rewards, Di[M]O
  # falls apart.
  'continued_dimo': {
    'reward': {'weight': 0.0},
    'temperature': 0.5,
    'optimizer': {'learning_rate': 1.5e-4},
  },
  **defaults.estimators('reward'),
  'reward_and_gan': {'gan': {'weight': 30.0, 'fakes': 'hard'}},
  'cool': {'temperature': 0.5},
}


def _shrink(config: ConfigDict) -> None:
  defaults.shorten(config)
  for name in ('preference', 'preference_held_out'):
    config[name].update(num_examples=64, teacher_steps=(1,))
  config.image_tower.unroll = 1
  config.data.num_examples = 256
  config.evaluation.update(
    per_category=4,
    batch_size=24,
    teacher_steps=(4,),
    guidance_scales=(2.0,),
    tteo={'starts': 1, 'steps': 2},
    every=0,
  )
  config.loop.keep_best = ''
