"""Checkpoints of diffusers' `VQModel` -> `DiffusersVQ` parameters."""

from softdimo_jax.convert import tree
from softdimo_jax.convert.format import CheckpointFormat, Converted, StateDict
from softdimo_jax.convert.shapes import Options, Shapes, image
from softdimo_jax.networks.tokenizers.diffusers_vq import DiffusersVQ

_CODER = '(encoder|decoder)'
_MIDDLE = rf'{_CODER}\.mid_block'
# Linear layers of the middle attention, which Meissonic's tokenizer lacks.
_ATTENTION = {'to_q': 'q', 'to_k': 'k', 'to_v': 'v', r'to_out\.0': 'proj_out'}


def diffusers_vq_rules(levels: int) -> tuple[tree.Rule, ...]:
  """Rules of `VQModel`, whose decoder numbers levels in execution order."""
  return (
    *(
      rule
      for level in range(levels)
      for rule in (
        *_level_rules('encoder', 'down', level, level),
        *_level_rules('decoder', 'up', level, levels - 1 - level),
      )
    ),
    *_block_rules(rf'{_MIDDLE}\.resnets\.0', r'\1/mid_block_1'),
    *_block_rules(rf'{_MIDDLE}\.resnets\.1', r'\1/mid_block_2'),
    *_attention_rules(rf'{_MIDDLE}\.attentions\.0', r'\1/mid_attn_1'),
    *tree.norm(rf'{_CODER}\.conv_norm_out', r'\1/norm_out'),
    *tree.conv(rf'{_CODER}\.(conv_in|conv_out)', r'\1/\2'),
    *tree.conv(r'(quant_conv|post_quant_conv)', r'\1'),
    tree.Rule(r'quantize\.embedding\.weight', 'codebook'),
  )


def convert_diffusers_vq(
  state_dict: StateDict, tokenizer: DiffusersVQ
) -> Converted:
  """Official `VQModel` state dict -> parameters of `tokenizer`."""
  rows, columns = tokenizer.grid or (1, 1)
  factor = tokenizer.factor
  images = image(factor * rows, factor * columns, tokenizer.in_channels)
  rules = diffusers_vq_rules(len(tokenizer.level_channels))
  target = tree.parameter_shapes(tokenizer, images)
  return tree.convert(state_dict, rules, target)


def _level_rules(
  coder: str, way: str, official: int, ours: int
) -> tuple[tree.Rule, ...]:
  """Rules of a coder's level, `official` there and `ours` here."""
  level, path = rf'{coder}\.{way}_blocks\.{official}', f'{coder}/{way}_{ours}'
  return (
    *_block_rules(rf'{level}\.resnets\.(\d+)', rf'{path}_block_\1'),
    *tree.conv(rf'{level}\.{way}samplers\.0\.conv', f'{path}_{way}sample_conv'),
  )


def _block_rules(block: str, path: str) -> tuple[tree.Rule, ...]:
  """Rules of a residual block; the pattern `block` has one group."""
  return (
    *tree.norm(rf'{block}\.(norm1|norm2)', rf'{path}/\2'),
    *tree.conv(rf'{block}\.(conv1|conv2)', rf'{path}/\2'),
    *tree.conv(rf'{block}\.conv_shortcut', f'{path}/nin_shortcut'),
  )


def _attention_rules(name: str, path: str) -> tuple[tree.Rule, ...]:
  """Rules of `Attention` -> `blocks.AttentionBlock` with 1x1 convolutions."""
  kernel = lambda weight: tree.linear_kernel(weight)[None, None]
  return (
    *tree.norm(rf'{name}\.group_norm', f'{path}/norm'),
    *(
      rule
      for official, ours in _ATTENTION.items()
      for rule in (
        tree.Rule(
          rf'{name}\.{official}\.weight', f'{path}/{ours}/kernel', kernel
        ),
        tree.Rule(rf'{name}\.{official}\.bias', f'{path}/{ours}/bias'),
      )
    ),
  )


def diffusers_vq_options(shapes: Shapes) -> Options:
  """Options of `DiffusersVQ`; all released models have 32 norm groups."""
  levels = range(shapes.count(r'encoder\.down_blocks\.(\d+)\.'))
  codebook_size, embedding_dim = shapes['quantize.embedding.weight']
  first = 'encoder.down_blocks.{}.resnets.0.conv1.weight'
  return {
    'in_channels': shapes['encoder.conv_in.weight'][1],
    'level_channels': tuple(shapes[first.format(n)][0] for n in levels),
    'num_res_blocks': shapes.count(
      r'encoder\.down_blocks\.0\.resnets\.(\d+)\.'
    ),
    'middle_attention': (
      'encoder.mid_block.attentions.0.to_q.weight' in shapes
    ),
    'latent_channels': shapes['encoder.conv_out.weight'][0],
    'codebook_size': codebook_size,
    'embedding_dim': embedding_dim,
  }


MEISSONIC_VQ = CheckpointFormat(
  DiffusersVQ,
  'encoder.mid_block.resnets.0.conv1.weight',
  diffusers_vq_options,
  convert_diffusers_vq,
)
