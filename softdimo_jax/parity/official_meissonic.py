"""Official arguments of Meissonic -> our modules, as in `official`."""

from softdimo_jax.networks.generators.meissonic import (
  BLOCK_SIDE,
  MeissonicTransformer,
)
from softdimo_jax.networks.tokenizers.diffusers_vq import DiffusersVQ
from softdimo_jax.parity.official import Config

# The official class has the number in its code.
_MLP_RATIO = 4


def meissonic(
  config: Config, grid: tuple[int, int] | None = None
) -> MeissonicTransformer:
  """Meissonic's `Transformer2DModel`.

  Args:
    config: of the class.
    grid: rows and columns of tokens, by default those of the released models.

  Raises:
    ValueError: for what no released model has: an embedding of the guidance,
      logits of another resolution than the tokens, and pooled text of another
      width than the blocks, which the official code cannot run.
  """
  downsample = config['downsample']
  width = config['num_attention_heads'] * config['attention_head_dim']
  if config.get('guidance_embeds') or downsample != config['upsample']:
    raise ValueError(
      'only guidance_embeds False with downsample = upsample is known'
    )
  if config['pooled_projection_dim'] != width:
    raise ValueError(
      f'pooled_projection_dim is {config["pooled_projection_dim"]} where the '
      f'blocks have a width of {width}'
    )
  side = BLOCK_SIDE * (2 if downsample else 1)
  return MeissonicTransformer(
    vocab_size=config['codebook_size'],
    spare_rows=config['vocab_size'] - config['codebook_size'] - 1,
    grid=grid or (side, side),
    downsample=downsample,
    width=width,
    joint_depth=config['num_layers'],
    single_depth=config['num_single_layers'],
    num_heads=config['num_attention_heads'],
    mlp_width=_MLP_RATIO * width,
    rope_axes=tuple(config['axes_dims_rope']),
    text_width=config['joint_attention_dim'],
  )


def diffusers_vq(
  config: Config, grid: tuple[int, int] | None = None
) -> DiffusersVQ:
  """diffusers' `VQModel`.

  Args:
    config: of the class.
    grid: rows and columns of positions, by default a square.

  Raises:
    ValueError: for norms, activations and blocks that Meissonic's has not.
  """
  kinds = {*config['down_block_types'], *config['up_block_types']}
  known = {'DownEncoderBlock2D', 'UpDecoderBlock2D'}
  if config['norm_type'] != 'group' or config['act_fn'] != 'silu':
    raise ValueError('only norm_type group with act_fn silu is known')
  if kinds - known:
    raise ValueError(f'only the blocks {sorted(known)} are known')
  return DiffusersVQ(
    in_channels=config['in_channels'],
    level_channels=tuple(config['block_out_channels']),
    num_res_blocks=config['layers_per_block'],
    middle_attention=config['mid_block_add_attention'],
    latent_channels=config['latent_channels'],
    codebook_size=config['num_vq_embeddings'],
    embedding_dim=config['vq_embed_dim'] or config['latent_channels'],
    num_norm_groups=config['norm_num_groups'],
    grid=grid,
  )
