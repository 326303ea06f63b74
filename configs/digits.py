"""The whole method on scikit-learn's real handwritten digits.

  python -m softdimo_jax.main --config=configs/digits.py --workdir=runs/digits

Variants after a colon, joined by commas: `maskbit` (bits instead of a
codebook), `ablations` (the paper's comparisons: further stages from the same
Di[M]O student), `tiny` (one minute, only to test the machinery).

Hardware, time and the metrics to expect: docs/results.md.
"""

from ml_collections import ConfigDict

from softdimo_jax import defaults


def get_config(variants: str = 'maskgit') -> ConfigDict:
  """Configuration of the named variants, e.g. 'maskbit,ablations'."""
  family, ablations, tiny = defaults.choose(
    'configs/digits.py',
    variants,
    (_MODELS, 'maskgit'),
    (('ablations',), ''),
    (('tiny',), ''),
  )
  config = _base(family)
  if ablations:
    defaults.add_stages(config, _ABLATIONS)
    _add_redi(config)
    config.evaluation.teacher_steps = (1, 2, 4, 8, 16)
    config.evaluation.guidance_scales = (1.0, 1.25, 1.5, 1.75)
  if tiny:
    _shrink(config)
  return config


def _base(family: str) -> ConfigDict:
  return defaults.experiment(
    name=f'digits:{family}',
    # Trained in this order; each names a section below and its folder in the
    # workdir.
    stages=('features', 'judge', 'tokenizer', 'teacher', 'dimo', 'softdimo'),
    data={'name': 'digits', 'held_out': 360},
    model=_MODELS[family],
    classifier={'num_classes': 10, 'feature_width': 64},
    # The same feature space and judge for every seed of the run.
    features=defaults.classifier(seed=1000),
    judge=defaults.classifier(seed=2000),
    tokenizer=defaults.tokenizer(
      2e-3,
      steps=1000,
      batch_size=64,
      ema_decay=0.99,
      restart_steps=560,
      optimizer={'warmup_steps': 100, 'final_ratio': 0.05},
    ),
    teacher=defaults.teacher(
      2e-3,
      steps=2000,
      batch_size=128,
      ema_decay=0.998,
      label_smoothing=0.0,
      # Official MaskGit and MaskBit count all entries. At this size that costs
      # the teacher and its students quality: docs/results.md.
      unmasked_weight=0.0,
      optimizer={
        'warmup_steps': 100,
        'final_ratio': 0.02,
        'weight_decay': 0.01,
        'b2': 0.999,
        'clip_norm': 0.0,
      },
    ),
    dimo=_distillation('teacher', 2e-4, auxiliary_rate=3e-3, steps=2200),
    softdimo=_distillation(
      'dimo', 1e-4, auxiliary_rate=1e-3, steps=1600, gan_weight=30.0
    ),
    sampling=defaults.random_order(steps=16),
    evaluation=defaults.evaluation(
      # Fewer images measure the size of the set as much as their quality.
      num_images=10_000,
      seeds=1,
      batch_size=1000,
      teacher_steps=(1, 16),
      # The teacher's best, and that of the distillation.
      guidance_scales=(1.25, 1.75),
      every=400,
    ),
    loop=defaults.loop(log_every=50, checkpoint_every=500),
  )


_GENERATOR = {
  'num_classes': 10,
  'length': 16,
  'width': 64,
  'depth': 3,
  'num_heads': 4,
  'mlp_width': 128,
  'dropout': 0.0,
  'unroll': 3,
}
_TOKENIZER = {
  'in_channels': 1,
  'hidden_channels': 16,
  'channel_multipliers': (1, 2),
  'num_res_blocks': 1,
  'num_norm_groups': 8,
}
_MODELS = {
  'maskgit': {
    'generator': {
      'name': 'maskgit',
      'vocab_size': 32,
      'table_scale': 0.125,
      **_GENERATOR,
    },
    'tokenizer': {
      'name': 'taming_vqgan',
      'resolution': 8,
      'attention_resolutions': (),
      'latent_channels': 32,
      'codebook_size': 32,
      'embedding_dim': 8,
      **_TOKENIZER,
    },
  },
  'maskbit': {
    'generator': {
      'name': 'maskbit', 'num_bits': 6, 'num_groups': 2, **_GENERATOR,
    },
    'tokenizer': {
      'name': 'maskbit', 'embedding_dim': 6, 'num_groups': 2, **_TOKENIZER,
    },
  },
}  # fmt: skip


def _distillation(
  start: str,
  learning_rate: float,
  *,
  auxiliary_rate: float,
  steps: int,
  gan_weight: float = 0.0,
) -> ConfigDict:
  return defaults.small_distillation(
    start,
    learning_rate,
    auxiliary_rate=auxiliary_rate,
    steps=steps,
    # At 64 the students of some teachers collapse to a factorised distribution.
    batch_size=128,
    ema_decay=0.998,
    # Students of a guided teacher are precise and lack recall, which the GAN
    # gives back (the paper's tables); at scale 1 nothing is missing.
    guidance_scale=1.75,
    init={'mask_ratio': 0.6, 'noise_scale': 0.02},
    auxiliary={'optimizer': {'decay': 'linear', 'final_ratio': 0.3}},
    gan={
      'weight': gan_weight,
      'fakes': 'hard',
      'taps': (0, 1, 2),
      'width': 128,
      'delay_steps': 100,
      'ramp_steps': 100,
      'optimizer': {'learning_rate': 3e-3},
    },
    # At a constant rate the raw student is far worse than its moving average,
    # and the GAN judges the raw student: the decay lets it settle.
    optimizer={'decay': 'linear', 'final_ratio': 0.05},
  )


# Further post-training stages, as long as `softdimo`.
_ABLATIONS = {
  **defaults.CONTROLS,
  **defaults.estimators('gan'),
  # The paper's choice: the heads learn on the embeddings that they judge.
  'soft_fakes': {'gan': {'fakes': 'soft'}},
  'never_masked': {'gan': {'max_mask_ratio': 0.0}},
  'half_masked': {'gan': {'max_mask_ratio': 0.5}},
  'cool': {'temperature': 0.7},
}


def _add_redi(config: ConfigDict) -> None:
  """Adds a rectified one-step student (ReDi), and `softdimo` from it."""
  config.redi = defaults.rectify(
    'teacher',
    5e-4,
    steps=2000,
    ema_decay=0.998,
    num_examples=20_000,
    guidance_scale=config.dimo.guidance_scale,
    label_smoothing=0.0,
    init=config.dimo.init.to_dict(),
    optimizer={'decay': 'linear', 'final_ratio': 0.05},
  )
  defaults.add_stages(config, {'redi_softdimo': {'start': 'redi'}})
  *others, last = config.stages
  config.stages = (*others, 'redi', last)


def _shrink(config: ConfigDict) -> None:
  defaults.shorten(config)
  config.evaluation.update(
    num_images=100,
    batch_size=100,
    seeds=1,
    teacher_steps=(1, 4),
    guidance_scales=(1.75,),
    every=0,
  )
