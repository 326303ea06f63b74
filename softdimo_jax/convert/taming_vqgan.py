"""Taming VQGAN checkpoints -> `TamingVQGAN` parameters."""

from softdimo_jax.convert import tree
from softdimo_jax.convert.format import CheckpointFormat, Converted, StateDict
from softdimo_jax.convert.shapes import Options, Shapes, image
from softdimo_jax.networks.tokenizers.taming_vqgan import TamingVQGAN

# Only its ratio to `attention_resolutions` matters.
_RESOLUTION = 256

# The official index in down.N and up.N is the level in both coders.
_LEVEL = r'(encoder|decoder)\.(down|up)\.(\d+)'
_MIDDLE = r'(encoder|decoder)\.mid\.(block_1|attn_1|block_2)'

RULES = (
  *tree.norm(
    rf'{_LEVEL}\.block\.(\d+)\.(norm1|norm2)', r'\1/\2_\3_block_\4/\5'
  ),
  *tree.conv(
    rf'{_LEVEL}\.block\.(\d+)\.(conv1|conv2|nin_shortcut)',
    r'\1/\2_\3_block_\4/\5',
  ),
  *tree.norm(rf'{_LEVEL}\.attn\.(\d+)\.norm', r'\1/\2_\3_attn_\4/norm'),
  *tree.conv(
    rf'{_LEVEL}\.attn\.(\d+)\.(q|k|v|proj_out)', r'\1/\2_\3_attn_\4/\5'
  ),
  *tree.conv(rf'{_LEVEL}\.(downsample|upsample)\.conv', r'\1/\2_\3_\4_conv'),
  *tree.norm(rf'{_MIDDLE}\.(norm1|norm2|norm)', r'\1/mid_\2/\3'),
  *tree.conv(rf'{_MIDDLE}\.(conv1|conv2|q|k|v|proj_out)', r'\1/mid_\2/\3'),
  *tree.norm(r'(encoder|decoder)\.norm_out', r'\1/norm_out'),
  *tree.conv(r'(encoder|decoder)\.(conv_in|conv_out)', r'\1/\2'),
  *tree.conv(r'(quant_conv|post_quant_conv)', r'\1'),
  tree.Rule(r'quantize\.embedding\.weight', 'codebook'),
)

# The discriminator and LPIPS network of the training loss.
IGNORED = (r'loss\..*',)


def convert_taming_vqgan(
  state_dict: StateDict, tokenizer: TamingVQGAN
) -> Converted:
  """Official `VQModel` state dict -> parameters of `tokenizer`.

  In a Lightning checkpoint it is stored under the key 'state_dict'.
  """
  images = image(tokenizer.resolution, channels=tokenizer.in_channels)
  target = tree.parameter_shapes(tokenizer, images)
  return tree.convert(state_dict, RULES, target, ignored=IGNORED)


def taming_vqgan_options(shapes: Shapes) -> Options:
  """Options of `TamingVQGAN`."""
  hidden, in_channels = shapes['encoder.conv_in.weight'][:2]
  levels = range(shapes.count(r'encoder\.down\.(\d+)\.'))
  codebook_size, embedding_dim = shapes['quantize.embedding.weight']
  return {
    'in_channels': in_channels,
    'resolution': _RESOLUTION,
    'hidden_channels': hidden,
    'channel_multipliers': tuple(
      shapes[f'encoder.down.{level}.block.0.conv1.weight'][0] // hidden
      for level in levels
    ),
    'num_res_blocks': shapes.count(r'encoder\.down\.0\.block\.(\d+)\.'),
    'attention_resolutions': tuple(
      _RESOLUTION // 2**level
      for level in levels
      if f'encoder.down.{level}.attn.0.q.weight' in shapes
    ),
    'latent_channels': shapes['encoder.conv_out.weight'][0],
    'codebook_size': codebook_size,
    'embedding_dim': embedding_dim,
  }


TAMING_VQGAN = CheckpointFormat(
  TamingVQGAN,
  'encoder.mid.attn_1.q.weight',
  taming_vqgan_options,
  convert_taming_vqgan,
)
