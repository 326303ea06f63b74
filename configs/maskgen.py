"""MaskGen-VQ (TA-TiTok, 256 px) from text: Di[M]O, then Soft-Di[M]O on rewards.

  python -m softdimo_jax.main --config=configs/maskgen.py --workdir=DIR \
      --config.pretrained.teacher=TEACHER --config.pretrained.text=TOWER \
      --config.pretrained.tokenizer=TOKENIZER --config.data.prompts=CACHE

The first three are folders written by `python -m softdimo_jax.convert`, CACHE
is one written by `python -m softdimo_jax.encode_prompts`; docs/text_to_image.md
has the commands. `--config.weights=rule` runs the same steps with synthetic
weights and prompts.

Variants after a colon, joined by commas: `dimo` and `reward` (one stage each;
the default runs both in turn; `reward` alone starts from
`--config.pretrained.dimo`), `tteo` (trains nothing: test-time optimisation of
the student in `--config.pretrained.softdimo`); `xl` for MaskGen-XL.

Settings: MaskGen's published ones for the teacher; this project's choice where
the papers leave the distillation open. Expected from the papers: GenEval .42
for Di[M]O, .51 for Soft-Di[M]O, .63 with test-time optimisation (MaskGen-L in
16 steps .48). Hardware: 8 accelerators or more at these batch sizes. Nothing
was run at full length here: docs/results.md says what was run.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from softdimo_jax import defaults

SIZES = {
  'l': {'width': 1024, 'depth': 16, 'mlp_width': 4096},
  'xl': {'width': 1280, 'depth': 20, 'mlp_width': 5120},
}


def get_config(variants: str = 'all') -> ConfigDict:
  """Configuration of the named variants, e.g. 'reward,xl'."""
  stages, size = defaults.choose(
    'configs/maskgen.py',
    variants,
    (defaults.PROMPTED_STAGES, 'all'),
    (SIZES, 'l'),
  )
  return defaults.prompted(
    stages,
    name=f'maskgen-{size}',
    distillation={
      'learning_rate': 1e-6,
      'batch_size': 64,
      'dropout': False,
      'guidance_scale': 4.0,
      # The table is initialised at .02: noise of unit variance would drown it.
      'init': {'noise_unit': 'table'},
      'mask': {'schedule': 'arccos'},
      **defaults.OFFICIAL_ADAM,
    },
    terms={'clip': 0.01, 'imagereward': 1.0},
    **_sections(SIZES[size]),
  )


def _sections(size: dict[str, int]) -> dict[str, Any]:
  return {
    'model': {
      'generator': {
        'name': 'maskgen',
        'vocab_size': 8192,
        'num_classes': 1000,
        'length': 128,
        'num_heads': 16,
        'text_width': 768,
        'micro_width': 256,
        'dtype': 'bfloat16',
        'remat': 'full',
        **size,
      },
      'micro': (6.5,),  # aesthetic score
      'prompt': {'clean': 'open_clip', 'pad_id': 0, 'null': ''},
      'tokenizer': _tokenizer(),
      'text': {
        'vocab_size': 49408,
        'length': 77,
        'width': 768,
        'depth': 12,
        'num_heads': 12,
        'mlp_width': 3072,
        'projection_width': 768,
        # OpenAI's weights; docs/text_to_image.md discusses the activation.
        'activation': 'quick_gelu',
      },
    },
    'sampling': {
      'batch_size': 16,  # images at once
      # For one step: as in training; has not been tuned.
      'temperature': placeholder(float),
      # The teacher's published sampler; its guidance scale of 12 is our 13.
      'steps': 16,
      'guidance_scale': 13.0,
      'plan': {
        'name': 'maskgen',
        'schedule': 'arccos',
        'guidance_schedule': 'cosine',
        'choice_temperature': 2.0,
      },
    },
    'tteo': defaults.test_time(batch_size=16),
  }


def _tokenizer() -> dict:
  return {
    'name': 'tatitok',
    'in_channels': 3,
    'resolution': 256,
    'encoder_patch': 16,
    'decoder_patch': 16,
    'length': 128,
    'encoder_width': 768,
    'encoder_depth': 12,
    'encoder_heads': 12,
    'decoder_width': 1024,
    'decoder_depth': 24,
    'decoder_heads': 16,
    'codebook_size': 8192,
    'embedding_dim': 64,
    'text_width': 768,
    'text_length': 77,
    'remat': 'full',
  }
