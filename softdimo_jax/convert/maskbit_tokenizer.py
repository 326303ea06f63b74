"""MaskBit's tokenizer checkpoints -> `MaskBitTokenizer` parameters.

Covers the lookup-free tokenizers, VQGAN+ and the MaskGIT tokenizer that MaskBit
released in torch.
"""

from softdimo_jax.convert import tree
from softdimo_jax.convert.format import CheckpointFormat, Converted, StateDict
from softdimo_jax.convert.shapes import Options, Shapes, image
from softdimo_jax.networks.tokenizers.maskbit import MaskBitTokenizer

# Constants of lookup-free quantisation, which the module computes itself.
IGNORED = (r'quantize\.bits_to_indices', r'quantize\.codebook')


def maskbit_tokenizer_rules(
  num_levels: int, *, legacy: bool
) -> tuple[tree.Rule, ...]:
  """Rules of `ConvVQModel`.

  Args:
    num_levels: number of resolutions of the coders.
    legacy: whether decoder.up is numbered by level (`ConvDecoderLegacy`); the
      newer decoder numbers it in execution order, lowest resolution first.
  """
  parts = [(r'(encoder|decoder)\.mid', r'\1/mid')]
  for index in range(num_levels):
    level = index if legacy else num_levels - 1 - index
    parts.append((rf'(encoder)\.down\.{index}', rf'\1/down_{index}'))
    parts.append((rf'(decoder)\.up\.{index}', rf'\1/up_{level}'))
  return (
    *tree.norm(r'(encoder|decoder)\.norm_out', r'\1/norm_out'),
    *tree.conv(r'(encoder|decoder)\.(conv_in|conv_out)', r'\1/\2'),
    tree.Rule(r'quantize\.embedding\.weight', 'codebook'),
    *(rule for part in parts for rule in _level_rules(*part)),
  )


def _level_rules(name: str, path: str) -> tuple[tree.Rule, ...]:
  block, target = rf'{name}\.res_blocks\.(\d+)', rf'{path}_block_\2'
  return (
    *tree.norm(rf'{block}\.(norm1|norm2)', rf'{target}/\3'),
    *tree.conv(rf'{block}\.(conv1|conv2|nin_shortcut)', rf'{target}/\3'),
    *tree.conv(rf'{name}\.down_conv', rf'{path}_downsample_conv'),
    *tree.conv(rf'{name}\.upsample_conv', rf'{path}_upsample_conv'),
  )


def convert_maskbit_tokenizer(
  state_dict: StateDict, tokenizer: MaskBitTokenizer
) -> Converted:
  """Official `ConvVQModel` state dict -> parameters of `tokenizer`.

  The order of the decoder's levels is inferred from the names: only the level
  of highest resolution has no upsampling.
  """
  num_levels = len(tokenizer.channel_multipliers)
  legacy = 'decoder.up.0.upsample_conv.weight' not in state_dict
  side = 2**num_levels
  images = image(side, channels=tokenizer.in_channels)
  return tree.convert(
    state_dict,
    maskbit_tokenizer_rules(num_levels, legacy=legacy),
    tree.parameter_shapes(tokenizer, images),
    ignored=IGNORED,
  )


def maskbit_tokenizer_options(
  shapes: Shapes, *, num_groups: int = 2
) -> Options:
  """Options of `MaskBitTokenizer`; `num_groups` is only for bits."""
  hidden, in_channels = shapes['encoder.conv_in.weight'][:2]
  levels = range(shapes.count(r'encoder\.down\.(\d+)\.'))
  depth = shapes.count(r'encoder\.mid\.res_blocks\.(\d+)\.')
  decoder = shapes.count(r'decoder\.mid\.res_blocks\.(\d+)\.')
  return {
    'in_channels': in_channels,
    'hidden_channels': hidden,
    'channel_multipliers': tuple(
      shapes[f'encoder.down.{level}.res_blocks.0.conv1.weight'][0] // hidden
      for level in levels
    ),
    'num_res_blocks': depth,
    'num_res_blocks_decoder': None if decoder == depth else decoder,
    'conv_downsample': 'encoder.down.0.down_conv.weight' in shapes,
    **_codebook(shapes, 'quantize.embedding.weight', num_groups),
  }


def _codebook(shapes: Shapes, codebook: str, num_groups: int) -> Options:
  """Options of the quantiser: a codebook, else bits."""
  if codebook in shapes:
    rows, width = shapes[codebook]
    return {'embedding_dim': width, 'codebook_size': rows, 'num_groups': 1}
  num_bits = shapes['encoder.conv_out.weight'][0]
  if num_bits % num_groups:
    raise tree.ConversionError(
      f'{num_bits} bits are not divisible into {num_groups} groups; give '
      '--num_groups'
    )
  return {
    'embedding_dim': num_bits,
    'codebook_size': None,
    'num_groups': num_groups,
  }


MASKBIT_TOKENIZER = CheckpointFormat(
  MaskBitTokenizer,
  'encoder.mid.res_blocks.0.norm1.weight',
  maskbit_tokenizer_options,
  convert_maskbit_tokenizer,
)
