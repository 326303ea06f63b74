"""Official constructor arguments -> our modules.

`config` is what the official class was built with, under its own names; the
listings of official checkpoints carry it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from softdimo_jax.networks.generators.google_maskgit import (
  GoogleMaskGitTransformer,
)
from softdimo_jax.networks.generators.maskbit import (
  MaskBitTableTransformer,
  MaskBitTransformer,
)
from softdimo_jax.networks.generators.maskgen import MaskGenTransformer
from softdimo_jax.networks.generators.maskgit import MaskGitTransformer
from softdimo_jax.networks.rewards.clip import CLIP, CLIPImageTower
from softdimo_jax.networks.text.clip import CLIPTextTower
from softdimo_jax.networks.tokenizers.maskbit import MaskBitTokenizer
from softdimo_jax.networks.tokenizers.taming_vqgan import TamingVQGAN
from softdimo_jax.networks.tokenizers.tatitok import TATiTok

Config = Mapping[str, Any]

# Pixels a token, where the official class has the number in its code.
_MASKGIT_STRIDE = 16
_GOOGLE_CONV_KERNEL = 4
_DIFFUSERS_MLP_RATIO = 4
_CLIP_L_WIDTH, _CLIP_LENGTH = 768, 77
# Width, depth and heads by name.
_TITOK_SIZES = {
  'small': (512, 8, 8),
  'base': (768, 12, 12),
  'large': (1024, 24, 16),
}
_OPENCLIP_MLP_RATIO, _OPENCLIP_HEAD_WIDTH = 4, 64
# Options that leave no trace in the weights, with the only values known.
_OPENCLIP_TEXT_OPTIONS = {
  'no_causal_mask': False,
  'final_ln_after_pool': False,
  'pool_type': 'argmax',
  'act_kwargs': None,
  'norm_kwargs': None,
}
# End-of-text id of old configurations, which stands for the largest id.
_LEGACY_END = 2
_HF_ACTIVATIONS = {
  'gelu': 'gelu',
  'gelu_new': 'gelu_tanh',
  'gelu_pytorch_tanh': 'gelu_tanh',
  'quick_gelu': 'quick_gelu',
}


def maskgit_transformer(config: Config) -> MaskGitTransformer:
  """Di[M]O's and Halton-MaskGIT's `MaskTransformer`."""
  return MaskGitTransformer(
    vocab_size=config['codebook_size'],
    num_classes=config['nclass'],
    length=(config['img_size'] // _MASKGIT_STRIDE) ** 2,
    width=config['hidden_dim'],
    depth=config['depth'],
    num_heads=config['heads'],
    mlp_width=config['mlp_dim'],
    dropout=config['dropout'],
  )


def taming_vqgan(config: Config) -> TamingVQGAN:
  """Taming's `VQModel`."""
  coder = config['ddconfig']
  return TamingVQGAN(
    in_channels=coder['in_channels'],
    resolution=coder['resolution'],
    hidden_channels=coder['ch'],
    channel_multipliers=tuple(coder['ch_mult']),
    num_res_blocks=coder['num_res_blocks'],
    attention_resolutions=tuple(coder['attn_resolutions']),
    latent_channels=coder['z_channels'],
    codebook_size=config['n_embed'],
    embedding_dim=config['embed_dim'],
  )


def maskbit_generator(
  config: Config, *, tables: bool = False
) -> MaskBitTransformer:
  """MaskBit's `LFQBert`, or `Bert` with `tables`."""
  module = MaskBitTableTransformer if tables else MaskBitTransformer
  return module(
    num_bits=int(math.log2(config['codebook_size'])),
    num_groups=config['codebook_splits'],
    num_classes=config['nclass'],
    length=(config['img_size'] // config['input_stride']) ** 2,
    width=config['hidden_dim'],
    depth=config['depth'],
    num_heads=config['heads'],
    mlp_width=config['mlp_dim'],
    dropout=config['dropout'],
    pre_norm=config['use_prenorm'],
  )


def maskbit_tokenizer(
  config: Config, *, num_groups: int = 1, legacy: bool = False
) -> MaskBitTokenizer:
  """MaskBit's `ConvVQModel`.

  Args:
    config: the official tokenizer configuration.
    num_groups: the generator's `codebook_splits`; 1 with a codebook.
    legacy: `ConvDecoderLegacy`, which ignores a depth of its own.

  Raises:
    ValueError: for a quantizer that is neither lookup nor lookup-free.
  """
  kind = config['quantizer_type']
  if kind not in ('lookup', 'lookup-free'):
    raise ValueError(
      f'quantizer_type {kind!r} is unknown; choose lookup or lookup-free'
    )
  levels = config['num_resolutions']
  return MaskBitTokenizer(
    in_channels=config['num_channels'],
    hidden_channels=config['hidden_channels'],
    channel_multipliers=tuple(config['channel_mult'][:levels]),
    num_res_blocks=config['num_res_blocks'],
    num_res_blocks_decoder=(
      None if legacy else config.get('num_res_blocks_decoder')
    ),
    conv_downsample=config['sample_with_conv'],
    embedding_dim=config['token_size'],
    codebook_size=config['codebook_size'] if kind == 'lookup' else None,
    l2_normalized=config.get('use_l2_normalisation', False),
    num_groups=num_groups,
  )


def google_transformer(
  config: Config, *, num_classes: int = 1000
) -> GoogleMaskGitTransformer:
  """Google's `Transformer`, whose table holds codes, classes and the mask."""
  return GoogleMaskGitTransformer(
    vocab_size=config['vocab_size'] - num_classes - 1,
    num_classes=num_classes,
    length=config['max_position_embeddings'] - 1,
    width=config['hidden_size'],
    depth=config['num_hidden_layers'],
    num_heads=config['num_attention_heads'],
    mlp_width=config['intermediate_size'],
    dropout=config['hidden_dropout_prob'],
  )


def google_tokenizer(config: Config) -> MaskBitTokenizer:
  """Google's `VQVAE`.

  Raises:
    ValueError: for an activation or norm that no released model has.
  """
  for name, known in (('activation_fn', 'swish'), ('norm_type', 'GN')):
    if config[name] != known:
      raise ValueError(f'{name} {config[name]!r} is unknown; choose {known!r}')
  return MaskBitTokenizer(
    hidden_channels=config['filters'],
    channel_multipliers=tuple(config['channel_multipliers']),
    num_res_blocks=config['num_res_blocks'],
    conv_downsample=config['conv_downsample'],
    downsample_kernel=_GOOGLE_CONV_KERNEL,
    embedding_dim=config['embedding_dim'],
    codebook_size=config['codebook_size'],
  )


def clip_text(config: Config) -> CLIPTextTower:
  """`CLIPTextModelWithProjection` of transformers.

  Raises:
    ValueError: for an activation that no CLIP has.
  """
  end = config['eos_token_id']
  return CLIPTextTower(
    vocab_size=config['vocab_size'],
    length=config['max_position_embeddings'],
    width=config['hidden_size'],
    depth=config['num_hidden_layers'],
    num_heads=config['num_attention_heads'],
    mlp_width=config['intermediate_size'],
    projection_width=config['projection_dim'],
    activation=_hf_activation(config),
    end_token=None if end == _LEGACY_END else end,
    epsilon=config['layer_norm_eps'],
  )


def clip(config: Config) -> CLIP:
  """`CLIPModel` of transformers, whose projections have one width.

  Raises:
    ValueError: for an activation that no CLIP has.
  """
  image = config['vision']
  return CLIP(
    CLIPImageTower(
      resolution=image['image_size'],
      patch=image['patch_size'],
      width=image['hidden_size'],
      depth=image['num_hidden_layers'],
      num_heads=image['num_attention_heads'],
      mlp_width=image['intermediate_size'],
      projection_width=config['proj'],
      activation=_hf_activation(image),
      epsilon=image['layer_norm_eps'],
    ),
    clip_text({**config['text'], 'projection_dim': config['proj']}),
  )


def _hf_activation(config: Config) -> str:
  activation = config['hidden_act']
  if activation not in _HF_ACTIVATIONS:
    raise ValueError(
      f'hidden_act {activation!r} is unknown; choose one of '
      f'{tuple(_HF_ACTIVATIONS)}'
    )
  return _HF_ACTIVATIONS[activation]


def openclip_text(config: Config) -> CLIPTextTower:
  """The text half of open_clip's `CLIP`.

  Raises:
    ValueError: for options that no CLIP has.
  """
  text = config['text_cfg']
  for name, known in _OPENCLIP_TEXT_OPTIONS.items():
    if text.get(name, known) != known:
      raise ValueError(f'{name} {text[name]!r} is unknown; choose {known!r}')
  ratio = text.get('mlp_ratio', _OPENCLIP_MLP_RATIO)
  return CLIPTextTower(
    vocab_size=text['vocab_size'],
    length=text['context_length'],
    width=text['width'],
    depth=text['layers'],
    num_heads=text['heads'],
    mlp_width=int(text['width'] * ratio),
    projection_width=config['embed_dim'],
    activation=_openclip_activation(config),
  )


def openclip(config: Config) -> CLIP:
  """`CLIP` of open_clip, which is OpenAI's and HPSv2's as well.

  Raises:
    ValueError: for options of the text half that no CLIP has.
  """
  image = config['vision_cfg']
  width = image['width']
  ratio = image.get('mlp_ratio', _OPENCLIP_MLP_RATIO)
  return CLIP(
    CLIPImageTower(
      resolution=image['image_size'],
      patch=image['patch_size'],
      width=width,
      depth=image['layers'],
      num_heads=width // image.get('head_width', _OPENCLIP_HEAD_WIDTH),
      mlp_width=int(width * ratio),
      projection_width=config['embed_dim'],
      activation=_openclip_activation(config),
    ),
    openclip_text(config),
  )


def _openclip_activation(config: Config) -> str:
  return 'quick_gelu' if config.get('quick_gelu') else 'gelu'


def maskgen(config: Config) -> MaskGenTransformer:
  """`MaskGen_VQ`, from the whole configuration."""
  tokens = config['model']['vq_model']
  model = config['model']['maskgen']
  width = model['decoder_embed_dim']
  return MaskGenTransformer(
    vocab_size=tokens['codebook_size'],
    num_classes=model['condition_num_classes'],
    length=tokens['num_latent_tokens'],
    width=width,
    depth=model['decoder_depth'],
    num_heads=model['decoder_num_heads'],
    mlp_width=_DIFFUSERS_MLP_RATIO * width,
    text_width=tokens.get('text_embed_dim', _CLIP_L_WIDTH),
    micro_width=(
      model['micro_condition_embed_dim'] if model['micro_condition'] else 0
    ),
    tied=model.get('weight_tying', True),
  )


def tatitok(
  config: Config, sizes: Mapping[str, Sequence[int]] | None = None
) -> TATiTok:
  """`TATiTok`, from the whole configuration.

  Args:
    config: of a model with a codebook.
    sizes: name -> (width, depth, heads), beside the official names.

  Raises:
    ValueError: for the continuous variant, an unknown size, and the legacy
      layout of the encoder's output, which no TA-TiTok has.
  """
  model = config['model']['vq_model']
  known = _TITOK_SIZES | dict(sizes or {})
  coders = [model[f'vit_{coder}_model_size'] for coder in ('enc', 'dec')]
  if unknown := [name for name in coders if name not in known]:
    raise ValueError(f'size {unknown[0]!r} is unknown; there are {list(known)}')
  # The official code, too, takes what is not named for legacy.
  if model.get('quantize_mode', 'vq') != 'vq' or model.get('is_legacy', True):
    raise ValueError('only quantize_mode vq with is_legacy False is known')
  encoder, decoder = (known[name] for name in coders)
  return TATiTok(
    resolution=config['dataset']['preprocessing']['crop_size'],
    encoder_patch=model['vit_enc_patch_size'],
    decoder_patch=model['vit_dec_patch_size'],
    length=model['num_latent_tokens'],
    encoder_width=encoder[0],
    encoder_depth=encoder[1],
    encoder_heads=encoder[2],
    decoder_width=decoder[0],
    decoder_depth=decoder[1],
    decoder_heads=decoder[2],
    codebook_size=model['codebook_size'],
    embedding_dim=model['token_size'],
    l2_normalized=model['use_l2_norm'],
    text_width=model.get('text_embed_dim', _CLIP_L_WIDTH),
    text_length=model.get('text_context_length', _CLIP_LENGTH),
  )
