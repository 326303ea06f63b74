"""Official constructor arguments of the generators, see `official`."""

import math

from softdimo_jax.networks.generators.google_maskgit import (
  GoogleMaskGitTransformer,
)
from softdimo_jax.networks.generators.maskbit import (
  MaskBitTableTransformer,
  MaskBitTransformer,
)
from softdimo_jax.networks.generators.maskgen import MaskGenTransformer
from softdimo_jax.networks.generators.maskgit import MaskGitTransformer
from softdimo_jax.networks.generators.meissonic import (
  BLOCK_SIDE,
  MeissonicTransformer,
)
from softdimo_jax.parity.official import BERT_SIZES, Config, renamed

# Constants in the code of official classes: side of a token in pixels, MLP
# width over block width.
_MASKGIT_STRIDE = 16
_DIFFUSERS_MLP_RATIO = 4
_CLIP_L_WIDTH = 768
_SIZES = {
  'num_classes': 'nclass', 'width': 'hidden_dim', 'depth': 'depth',
  'num_heads': 'heads', 'mlp_width': 'mlp_dim', 'dropout': 'dropout',
}  # fmt: skip
_MEISSONIC = {
  'vocab_size': 'codebook_size', 'downsample': 'downsample',
  'joint_depth': 'num_layers', 'single_depth': 'num_single_layers',
  'num_heads': 'num_attention_heads', 'text_width': 'joint_attention_dim',
}  # fmt: skip
_MASKGEN = {
  'num_classes': 'condition_num_classes', 'width': 'decoder_embed_dim',
  'depth': 'decoder_depth', 'num_heads': 'decoder_num_heads',
}  # fmt: skip


def maskgit_transformer(config: Config) -> MaskGitTransformer:
  """Di[M]O's and Halton-MaskGIT's `MaskTransformer`."""
  return MaskGitTransformer(
    vocab_size=config['codebook_size'],
    length=(config['img_size'] // _MASKGIT_STRIDE) ** 2,
    **renamed(config, _SIZES),
  )


def maskbit_generator(
  config: Config, *, tables: bool = False
) -> MaskBitTransformer:
  """MaskBit's `LFQBert`, or `Bert` with `tables`."""
  module = MaskBitTableTransformer if tables else MaskBitTransformer
  return module(
    num_bits=int(math.log2(config['codebook_size'])),
    num_groups=config['codebook_splits'],
    length=(config['img_size'] // config['input_stride']) ** 2,
    pre_norm=config['use_prenorm'],
    **renamed(config, _SIZES),
  )


def google_transformer(
  config: Config, *, num_classes: int = 1000
) -> GoogleMaskGitTransformer:
  """Google's `Transformer`, whose table has codes, classes and the mask."""
  sizes = renamed(config, BERT_SIZES)
  sizes['vocab_size'] -= num_classes + 1
  sizes['length'] -= 1
  dropout = config['hidden_dropout_prob']
  return GoogleMaskGitTransformer(
    num_classes=num_classes, dropout=dropout, **sizes
  )


def maskgen(config: Config) -> MaskGenTransformer:
  """`MaskGen_VQ`, from the whole configuration."""
  tokens, model = config['model']['vq_model'], config['model']['maskgen']
  micro_width = model['micro_condition_embed_dim']
  return MaskGenTransformer(
    vocab_size=tokens['codebook_size'],
    length=tokens['num_latent_tokens'],
    mlp_width=_DIFFUSERS_MLP_RATIO * model['decoder_embed_dim'],
    text_width=tokens.get('text_embed_dim', _CLIP_L_WIDTH),
    micro_width=micro_width if model['micro_condition'] else 0,
    tied=model.get('weight_tying', True),
    **renamed(model, _MASKGEN),
  )


def meissonic(
  config: Config, grid: tuple[int, int] | None = None
) -> MeissonicTransformer:
  """Meissonic's `Transformer2DModel`.

  Args:
    config: arguments of the class.
    grid: rows and columns of tokens; default: those of the released models.

  Raises:
    ValueError: for variants without a released model: guidance embeddings,
      `downsample` unlike `upsample`, and pooled text whose width differs from
      the blocks', which the official code cannot run.
  """
  downsample = config['downsample']
  width = config['num_attention_heads'] * config['attention_head_dim']
  if config.get('guidance_embeds') or downsample != config['upsample']:
    raise ValueError(
      'only guidance_embeds False with downsample = upsample is supported'
    )
  if config['pooled_projection_dim'] != width:
    raise ValueError(
      f'pooled_projection_dim is {config["pooled_projection_dim"]}, but the '
      f'blocks have width {width}'
    )
  side = BLOCK_SIDE * (2 if downsample else 1)
  return MeissonicTransformer(
    spare_rows=config['vocab_size'] - config['codebook_size'] - 1,
    grid=grid or (side, side),
    width=width,
    mlp_width=_DIFFUSERS_MLP_RATIO * width,
    rope_axes=tuple(config['axes_dims_rope']),
    **renamed(config, _MEISSONIC),
  )
