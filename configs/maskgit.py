"""MaskGit, ImageNet 256: Di[M]O, then Soft-Di[M]O with the GAN.

  python -m softdimo_jax.main --config=configs/maskgit.py --workdir=DIR \
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

Settings: Di[M]O's published ones; this project's choice where Soft-Di[M]O
leaves them open. Expected from the papers: one-step FID 6.91 for Di[M]O (its
teacher 6.60). Hardware: 8 accelerators or more at these batch sizes. Nothing
was run at full length here: docs/results.md says what was run.
"""

from ml_collections import ConfigDict

from softdimo_jax import defaults


def get_config(variant: str = 'all') -> ConfigDict:
  """Configuration of a variant."""
  return defaults.imagenet(
    'maskgit',
    variant,
    model={'generator': _generator(), 'tokenizer': _tokenizer()},
    teacher=defaults.teacher(
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
    dimo=defaults.distillation('teacher', 1e-5, **defaults.OFFICIAL_ADAM),
    softdimo=defaults.distillation(
      'dimo', 1e-6, gan={'weight': 50.0}, **defaults.OFFICIAL_ADAM
    ),
    sampling={
      # For one step: 7 for FID, lower for a higher Inception Score.
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
  )


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
