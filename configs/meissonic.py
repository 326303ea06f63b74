"""Meissonic (1024 px) from text: Di[M]O, then Soft-Di[M]O on rewards.

  python -m softdimo_jax.main --config=configs/meissonic.py --workdir=DIR \
      --config.pretrained.teacher=TEACHER --config.pretrained.text=TOWER \
      --config.pretrained.tokenizer=TOKENIZER --config.data.prompts=CACHE

The first three are folders written by `python -m softdimo_jax.convert`, CACHE
is one written by `python -m softdimo_jax.encode_prompts`; docs/text_to_image.md
has the commands. `--config.weights=rule` runs the same steps with synthetic
weights and prompts.

Variants after a colon, joined by commas: `dimo` and `reward` (one stage each;
the default runs both in turn; `reward` alone starts from
`--config.pretrained.dimo`), `tteo` (trains nothing: test-time optimisation of
the student in `--config.pretrained.softdimo`); `monetico` for 512 px.

Settings: Di[M]O's published ones; this project's choice where Soft-Di[M]O
leaves them open, and Meissonic's for Monetico. Expected from the papers:
GenEval .43 for Di[M]O, .53 for Soft-Di[M]O (Meissonic in 32 steps .46).
Hardware: sixteen accelerators of 80 GB for the batch of 16; with fewer, decode
fewer images at once, e.g. `--config.softdimo.reward.micro_batch=4` on four.
Nothing was run at full length here: docs/results.md says what was run.
"""

from typing import Any

from ml_collections import ConfigDict

from softdimo_jax import defaults

# Side of the token grid, whether the blocks see it downsampled, pixels.
SIZES = {'meissonic': (64, True, 1024), 'monetico': (32, False, 512)}

# Prompt of the unconditional branch, in the official sampler and in Di[M]O.
NEGATIVE_PROMPT = (
  'worst quality, low quality, low res, blurry, distortion, watermark, logo, '
  'signature, text, jpeg artifacts, signature, sketch, duplicate, ugly, '
  'identifying mark'
)


def get_config(variants: str = 'all') -> ConfigDict:
  """Configuration of the named variants, e.g. 'reward,monetico'."""
  stages, size = defaults.choose(
    'configs/meissonic.py',
    variants,
    (defaults.PROMPTED_STAGES, 'all'),
    (SIZES, 'meissonic'),
  )
  return defaults.prompted(
    stages,
    name=size,
    distillation={
      'learning_rate': 1e-6,
      'steps': 20_000,
      'batch_size': 16,
      'dropout': False,
      'guidance_scale': 4.0,
      'init': {'mask_ratio': 0.5, 'noise_scale': 0.3},
      'mask': {'schedule': 'cosine', 'low': 0.02, 'high': 0.98},
      'divergence': {'chunk': 512},
      **defaults.OFFICIAL_ADAM,
    },
    terms={'clip': 0.01, 'imagereward': 1.0, 'hpsv2': 5.0},
    **_sections(*SIZES[size]),
  )


def _sections(side: int, downsample: bool, pixels: int) -> dict[str, Any]:
  return {
    'model': {
      'generator': {
        'name': 'meissonic',
        'vocab_size': 8192,
        'spare_rows': 63,
        'grid': (side, side),
        'downsample': downsample,
        'width': 1024,
        'joint_depth': 14,
        'single_depth': 28,
        'num_heads': 8,
        'mlp_width': 4096,
        'rope_axes': (16, 56, 56),
        'text_width': 1024,
        'timestep_mode': 'zero',
        'dtype': 'bfloat16',
        'remat': 'full',
      },
      # Width, height, two crop offsets, aesthetic score.
      'micro': (float(pixels), float(pixels), 0.0, 0.0, 6.0),
      'prompt': {'clean': 'hf', 'pad_id': 0, 'null': NEGATIVE_PROMPT},
      'tokenizer': _tokenizer(),
      'text': {
        'vocab_size': 49408,
        'length': 77,
        'width': 1024,
        'depth': 24,
        'num_heads': 16,
        'mlp_width': 4096,
        'projection_width': 1024,
        'activation': 'gelu',
      },
    },
    'sampling': {
      'batch_size': 4,  # images at once
      # For one step, as in Di[M]O's evaluation.
      'temperature': 1.2,
      # The teacher's published sampler.
      'steps': 48,
      'guidance_scale': 9.0,
      'plan': {
        'name': 'meissonic',
        'schedule': 'cosine',
        'choice_temperature': (2.0, 0.0),
        # Di[M]O's networks stay at time 0, as in the official code.
        'official_times': True,
      },
    },
    'tteo': defaults.test_time(batch_size=4),
  }


def _tokenizer() -> dict[str, Any]:
  return {
    'name': 'diffusers_vq',
    'in_channels': 3,
    'level_channels': (128, 256, 256, 512, 768),
    'num_res_blocks': 2,
    'middle_attention': False,
    'latent_channels': 64,
    'codebook_size': 8192,
    'embedding_dim': 64,
    'remat': 'full',
  }
