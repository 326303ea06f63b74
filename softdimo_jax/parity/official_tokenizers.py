"""Official constructor arguments of the tokenizers, see `official`."""

from collections.abc import Mapping, Sequence

from softdimo_jax.networks.tokenizers.diffusers_vq import DiffusersVQ
from softdimo_jax.networks.tokenizers.maskbit import MaskBitTokenizer
from softdimo_jax.networks.tokenizers.taming_vqgan import TamingVQGAN
from softdimo_jax.networks.tokenizers.tatitok import TATiTok
from softdimo_jax.parity.official import Config, check_known, renamed

_GOOGLE_CONV_KERNEL = 4
_CLIP_L_WIDTH, _CLIP_LENGTH = 768, 77
# Name -> (width, depth, heads).
_TITOK_SIZES = {
  'small': (512, 8, 8),
  'base': (768, 12, 12),
  'large': (1024, 24, 16),
}
_TAMING = {
  'in_channels': 'in_channels', 'resolution': 'resolution',
  'hidden_channels': 'ch', 'num_res_blocks': 'num_res_blocks',
  'latent_channels': 'z_channels',
}  # fmt: skip
_MASKBIT = {
  'in_channels': 'num_channels', 'hidden_channels': 'hidden_channels',
  'num_res_blocks': 'num_res_blocks', 'conv_downsample': 'sample_with_conv',
  'embedding_dim': 'token_size',
}  # fmt: skip
_GOOGLE = {
  'hidden_channels': 'filters', 'num_res_blocks': 'num_res_blocks',
  'conv_downsample': 'conv_downsample', 'embedding_dim': 'embedding_dim',
  'codebook_size': 'codebook_size',
}  # fmt: skip
_TATITOK = {
  'encoder_patch': 'vit_enc_patch_size', 'decoder_patch': 'vit_dec_patch_size',
  'length': 'num_latent_tokens', 'codebook_size': 'codebook_size',
  'embedding_dim': 'token_size', 'l2_normalized': 'use_l2_norm',
}  # fmt: skip
_DIFFUSERS = {
  'in_channels': 'in_channels', 'num_res_blocks': 'layers_per_block',
  'middle_attention': 'mid_block_add_attention',
  'latent_channels': 'latent_channels', 'codebook_size': 'num_vq_embeddings',
  'num_norm_groups': 'norm_num_groups',
}  # fmt: skip


def taming_vqgan(config: Config) -> TamingVQGAN:
  """Taming's `VQModel`."""
  coder = config['ddconfig']
  return TamingVQGAN(
    channel_multipliers=tuple(coder['ch_mult']),
    attention_resolutions=tuple(coder['attn_resolutions']),
    codebook_size=config['n_embed'],
    embedding_dim=config['embed_dim'],
    **renamed(coder, _TAMING),
  )


def maskbit_tokenizer(
  config: Config, *, num_groups: int = 1, legacy: bool = False
) -> MaskBitTokenizer:
  """MaskBit's `ConvVQModel`.

  Args:
    config: the official tokenizer configuration.
    num_groups: the generator's `codebook_splits`; 1 with a codebook.
    legacy: whether the decoder is `ConvDecoderLegacy`, which ignores
      `num_res_blocks_decoder`.

  Raises:
    ValueError: if the quantiser is neither lookup nor lookup-free.
  """
  kind = config['quantizer_type']
  if kind not in ('lookup', 'lookup-free'):
    raise ValueError(
      f'quantizer_type {kind!r} is unknown; choose lookup or lookup-free'
    )
  levels = config['num_resolutions']
  depth = None if legacy else config.get('num_res_blocks_decoder')
  return MaskBitTokenizer(
    channel_multipliers=tuple(config['channel_mult'][:levels]),
    num_res_blocks_decoder=depth,
    codebook_size=config['codebook_size'] if kind == 'lookup' else None,
    l2_normalized=config.get('use_l2_normalisation', False),
    num_groups=num_groups,
    **renamed(config, _MASKBIT),
  )


def google_tokenizer(config: Config) -> MaskBitTokenizer:
  """Google's `VQVAE`.

  Raises:
    ValueError: if no released model has the activation or norm.
  """
  check_known(config, {'activation_fn': 'swish', 'norm_type': 'GN'})
  return MaskBitTokenizer(
    channel_multipliers=tuple(config['channel_multipliers']),
    downsample_kernel=_GOOGLE_CONV_KERNEL,
    **renamed(config, _GOOGLE),
  )


def tatitok(
  config: Config, sizes: Mapping[str, Sequence[int]] | None = None
) -> TATiTok:
  """`TATiTok`, from the whole configuration.

  Args:
    config: configuration of a model with a codebook.
    sizes: name -> (width, depth, heads), in addition to the official names.

  Raises:
    ValueError: if the size is unknown, the variant continuous, or the encoder's
      output in the legacy layout, which no TA-TiTok has.
  """
  model = config['model']['vq_model']
  known = _TITOK_SIZES | dict(sizes or {})
  coders = {
    'encoder': model['vit_enc_model_size'],
    'decoder': model['vit_dec_model_size'],
  }
  if unknown := [name for name in coders.values() if name not in known]:
    raise ValueError(
      f'size {unknown[0]!r} is unknown; choose one of {list(known)}'
    )
  # The official code also defaults to legacy.
  if model.get('quantize_mode', 'vq') != 'vq' or model.get('is_legacy', True):
    raise ValueError('only quantize_mode vq with is_legacy False is supported')
  towers = {
    f'{coder}_{size}': value
    for coder, name in coders.items()
    for size, value in zip(
      ('width', 'depth', 'heads'), known[name], strict=True
    )
  }
  return TATiTok(
    resolution=config['dataset']['preprocessing']['crop_size'],
    text_width=model.get('text_embed_dim', _CLIP_L_WIDTH),
    text_length=model.get('text_context_length', _CLIP_LENGTH),
    **towers,
    **renamed(model, _TATITOK),
  )


def diffusers_vq(
  config: Config, grid: tuple[int, int] | None = None
) -> DiffusersVQ:
  """diffusers' `VQModel`.

  Args:
    config: arguments of the class.
    grid: rows and columns of positions; default: a square.

  Raises:
    ValueError: if norms, activations or blocks are not those of Meissonic's.
  """
  kinds = {*config['down_block_types'], *config['up_block_types']}
  known = {'DownEncoderBlock2D', 'UpDecoderBlock2D'}
  if config['norm_type'] != 'group' or config['act_fn'] != 'silu':
    raise ValueError('only norm_type group with act_fn silu is supported')
  if kinds - known:
    raise ValueError(f'only the blocks {sorted(known)} are supported')
  return DiffusersVQ(
    level_channels=tuple(config['block_out_channels']),
    embedding_dim=config['vq_embed_dim'] or config['latent_channels'],
    grid=grid,
    **renamed(config, _DIFFUSERS),
  )
