"""Google's MaskGIT checkpoints -> our parameters.

The official msgpack files contain a Flax tree, the entry 'params' of
`flax.serialization.msgpack_restore`. Names here are its paths, joined by '/',
with or without the prefix 'params/'. Kernels keep their axes, except that the
axes of heads are merged.
"""

from softdimo_jax.convert import tree
from softdimo_jax.convert.format import CheckpointFormat, Converted, StateDict
from softdimo_jax.convert.shapes import (
  Options,
  Shapes,
  codes,
  generator_params,
  image,
)
from softdimo_jax.networks.generators.google_maskgit import (
  GoogleMaskGitTransformer,
)
from softdimo_jax.networks.tokenizers.maskbit import MaskBitTokenizer

# Kernel size of downsampling where it is pooling, so that no shape has it.
_KERNEL = 4

_ROOT = '(?:params/)?'
_LAYER = rf'{_ROOT}TransformerLayer_(?P<layer>\d+)'
_ATTENTION = rf'{_LAYER}/Attention_0/self_attention'


def _merge_last(array: tree.Array) -> tree.Array:
  """Merges the last two axes: [.., heads, hd] -> [.., D]."""
  return array.reshape(*array.shape[:-2], -1)


def _merge_first(kernel: tree.Array) -> tree.Array:
  """Merges the first two axes: [heads, hd, D] -> [D, D]."""
  return kernel.reshape(-1, kernel.shape[-1])


def _same(name: str, path: str, *leaves: str) -> tuple[tree.Rule, ...]:
  return tuple(tree.Rule(f'{name}/{leaf}', f'{path}/{leaf}') for leaf in leaves)


TRANSFORMER_RULES = (
  tree.Rule(f'{_ROOT}Embed_0/word_embeddings/embedding', 'word_emb'),
  tree.Rule(f'{_ROOT}Embed_0/position_embeddings/embedding', 'pos_emb'),
  *_same(f'{_ROOT}Embed_0/embeddings_ln', 'first_norm', 'scale', 'bias'),
  *(
    tree.Rule(
      f'{_ATTENTION}/{part}/{leaf}',
      f'layers/attention/{part}/{leaf}',
      _merge_last,
    )
    for part in ('query', 'key', 'value')
    for leaf in ('kernel', 'bias')
  ),
  tree.Rule(
    f'{_ATTENTION}/out/kernel', 'layers/attention/out/kernel', _merge_first
  ),
  *_same(f'{_ATTENTION}/out', 'layers/attention/out', 'bias'),
  *_same(
    f'{_LAYER}/Attention_0/attention_output_ln',
    'layers/attention_norm',
    'scale',
    'bias',
  ),
  *_same(
    f'{_LAYER}/Mlp_0/intermediate_output', 'layers/mlp_in', 'kernel', 'bias'
  ),
  *_same(f'{_LAYER}/Mlp_0/layer_output', 'layers/mlp_out', 'kernel', 'bias'),
  *_same(f'{_LAYER}/Mlp_0/layer_output_ln', 'layers/mlp_norm', 'scale', 'bias'),
  *_same(f'{_ROOT}MlmLayer_0/mlm_dense', 'last_dense', 'kernel', 'bias'),
  *_same(f'{_ROOT}MlmLayer_0/mlm_ln', 'last_norm', 'scale', 'bias'),
  tree.Rule(f'{_ROOT}MlmLayer_0/mlm_bias/bias', 'logit_bias'),
)


def convert_google_maskgit(
  state_dict: StateDict, generator: GoogleMaskGitTransformer
) -> Converted:
  """Official `Transformer` tree -> parameters of `generator`."""
  target = generator_params(generator)
  return tree.convert(state_dict, TRANSFORMER_RULES, target)


def google_tokenizer_rules(
  tokenizer: MaskBitTokenizer,
) -> tuple[tree.Rule, ...]:
  """Rules of `VQVAE`, whose modules are numbered in execution order."""
  levels = range(len(tokenizer.channel_multipliers))
  depth = tokenizer.num_res_blocks
  blocks = lambda stage: [f'{stage}_block_{b}' for b in range(depth)]
  down = [name for level in levels for name in blocks(f'down_{level}')]
  up = [name for level in levels[::-1] for name in blocks(f'up_{level}')]
  downsample = [f'down_{level}_downsample_conv' for level in levels[:-1]]
  upsample = [f'up_{level}_upsample_conv' for level in levels[:0:-1]]
  if not tokenizer.conv_downsample:
    downsample = []
  return (
    *_coder_rules('encoder', [*down, *blocks('mid')], downsample),
    *_coder_rules('decoder', [*blocks('mid'), *up], upsample),
    tree.Rule(f'{_ROOT}quantizer/codebook', 'codebook'),
  )


def _coder_rules(
  coder: str, blocks: list[str], resampling: list[str]
) -> tuple[tree.Rule, ...]:
  root = f'{_ROOT}{coder}'
  convs = ['conv_in', *resampling, 'conv_out']
  parts = {
    'GroupNorm_0': 'norm1',
    'GroupNorm_1': 'norm2',
    'Conv_0': 'conv1',
    'Conv_1': 'conv2',
    'Conv_2': 'nin_shortcut',
  }
  names = {f'Conv_{i}': name for i, name in enumerate(convs)}
  names['GroupNorm_0'] = 'norm_out'
  for index, block in enumerate(blocks):
    for part, name in parts.items():
      names[f'ResBlock_{index}/{part}'] = f'{block}/{name}'
  return tuple(
    tree.Rule(rf'{root}/{official}/(kernel|scale|bias)', rf'{coder}/{ours}/\1')
    for official, ours in names.items()
  )


def convert_google_tokenizer(
  state_dict: StateDict, tokenizer: MaskBitTokenizer
) -> Converted:
  """Official `VQVAE` tree -> parameters of `tokenizer`, with a codebook."""
  side = 2 ** len(tokenizer.channel_multipliers)
  images = image(side, channels=tokenizer.in_channels)
  target = tree.parameter_shapes(tokenizer, images)
  return tree.convert(state_dict, google_tokenizer_rules(tokenizer), target)


def google_maskgit_options(
  shapes: Shapes, *, num_classes: int = 1000
) -> Options:
  """Options of `GoogleMaskGitTransformer`."""
  rows, width = shapes['Embed_0/word_embeddings/embedding']
  first = 'TransformerLayer_0'
  query = f'{first}/Attention_0/self_attention/query/bias'
  mlp = f'{first}/Mlp_0/intermediate_output/kernel'
  return {
    'vocab_size': codes(rows, num_classes, others=1),
    'num_classes': num_classes,
    'length': shapes['Embed_0/position_embeddings/embedding'][0] - 1,
    'width': width,
    'depth': shapes.count(r'TransformerLayer_(\d+)/'),
    'num_heads': shapes[query][0],
    'mlp_width': shapes[mlp][1],
  }


def google_tokenizer_options(shapes: Shapes) -> Options:
  """Options of Google's `MaskBitTokenizer`."""
  in_channels, hidden = shapes['encoder/Conv_0/kernel'][-2:]
  # Between the first and the last convolution there is one per upsampling.
  levels = shapes.count(r'decoder/Conv_(\d+)/') - 1
  depth = shapes.count(r'encoder/ResBlock_(\d+)/') // (levels + 1)
  codebook_size, embedding_dim = shapes['quantizer/codebook']
  conv_downsample = shapes.count(r'encoder/Conv_(\d+)/') > 2
  return {
    'in_channels': in_channels,
    'hidden_channels': hidden,
    'channel_multipliers': tuple(
      shapes[f'encoder/ResBlock_{level * depth}/Conv_0/kernel'][-1] // hidden
      for level in range(levels)
    ),
    'num_res_blocks': depth,
    'conv_downsample': conv_downsample,
    'downsample_kernel': (
      shapes['encoder/Conv_1/kernel'][0] if conv_downsample else _KERNEL
    ),
    'embedding_dim': embedding_dim,
    'codebook_size': codebook_size,
  }


GOOGLE_MASKGIT = CheckpointFormat(
  GoogleMaskGitTransformer,
  'MlmLayer_0/mlm_bias/bias',
  google_maskgit_options,
  convert_google_maskgit,
)
GOOGLE_TOKENIZER = CheckpointFormat(
  MaskBitTokenizer,
  'quantizer/codebook',
  google_tokenizer_options,
  convert_google_tokenizer,
)
