"""Rules of torch transformer blocks -> `transformer.Block` under `nn.scan`."""

from softdimo_jax.convert import tree

_PARTS = ('query', 'key', 'value')
# Linear layers of transformers' `CLIPEncoderLayer` -> ours.
_ENCODER_LAYERS = {
  r'self_attn\.q_proj': 'attention/query',
  r'self_attn\.k_proj': 'attention/key',
  r'self_attn\.v_proj': 'attention/value',
  r'self_attn\.out_proj': 'attention/out',
  r'mlp\.fc1': 'mlp_in',
  r'mlp\.fc2': 'mlp_out',
}
# Linear layers of diffusers' `JointTransformerBlock` -> ours.
_JOINT_LAYERS = {
  r'attn\.to_q': 'image/query',
  r'attn\.to_k': 'image/key',
  r'attn\.to_v': 'image/value',
  r'attn\.to_out\.0': 'image/out',
  r'ff\.net\.0\.proj': 'image/mlp_in',
  r'ff\.net\.2': 'image/mlp_out',
  r'attn\.add_q_proj': 'text/query',
  r'attn\.add_k_proj': 'text/key',
  r'attn\.add_v_proj': 'text/value',
  r'attn\.to_add_out': 'text/out',
  r'ff_context\.net\.0\.proj': 'text/mlp_in',
  r'ff_context\.net\.2': 'text/mlp_out',
}


def block_rules(inner: str, mlp_out: int) -> tuple[tree.Rule, ...]:
  r"""Rules of the blocks of MaskGit and MaskBit.

  `transformer.layers.N.0` is attention and `transformer.layers.N.1` the MLP,
  each with its `norm`.

  Args:
    inner: pattern between a sub-layer's name and its modules: r'fn\.' or ''.
    mlp_out: index of the MLP's second Linear in its Sequential.
  """
  layer = r'transformer\.layers\.(?P<layer>\d+)'
  mlp = rf'{layer}\.1\.{inner}net'
  return (
    *tree.norm(rf'{layer}\.0\.norm', 'layers/attention_norm'),
    *tree.norm(rf'{layer}\.1\.norm', 'layers/mlp_norm'),
    *_attention_rules(rf'{layer}\.0\.{inner}mha', 'layers/attention'),
    *tree.linear(rf'{mlp}\.0', 'layers/mlp_in'),
    *tree.linear(rf'{mlp}\.{mlp_out}', 'layers/mlp_out'),
  )


def residual_block_rules(layer: str, path: str) -> tuple[tree.Rule, ...]:
  r"""Rules of open_clip's `ResidualAttentionBlock`, also used by TA-TiTok.

  Args:
    layer: pattern of a block's name, with the group `layer`.
    path: path of the stacked blocks; may refer to other groups of the pattern.
  """
  return (
    *tree.norm(rf'{layer}\.ln_1', f'{path}/attention_norm'),
    *tree.norm(rf'{layer}\.ln_2', f'{path}/mlp_norm'),
    *_attention_rules(rf'{layer}\.attn', f'{path}/attention'),
    *tree.linear(rf'{layer}\.mlp\.c_fc', f'{path}/mlp_in'),
    *tree.linear(rf'{layer}\.mlp\.c_proj', f'{path}/mlp_out'),
  )


def encoder_layer_rules(layer: str, path: str) -> tuple[tree.Rule, ...]:
  """Rules of transformers' `CLIPEncoderLayer`.

  Args:
    layer: pattern of a block's name, with the group `layer`.
    path: path of the stacked blocks.
  """
  return (
    *tree.norm(rf'{layer}\.layer_norm1', f'{path}/attention_norm'),
    *tree.norm(rf'{layer}\.layer_norm2', f'{path}/mlp_norm'),
    *(
      rule
      for official, ours in _ENCODER_LAYERS.items()
      for rule in tree.linear(rf'{layer}\.{official}', f'{path}/{ours}')
    ),
  )


def _attention_rules(name: str, path: str) -> tuple[tree.Rule, ...]:
  """Rules of torch's `MultiheadAttention` -> `transformer.SelfAttention`."""
  return stacked_attention_rules(
    rf'{name}\.in_proj_', rf'{name}\.out_proj', path
  )


def stacked_attention_rules(
  stacked: str, out: str, path: str
) -> tuple[tree.Rule, ...]:
  """Rules of attention with one projection for query, key and value.

  Args:
    stacked: pattern of the projection's names, before `weight` and `bias`.
    out: pattern of the output layer's name.
    path: path of the `transformer.SelfAttention`.
  """
  return (
    tree.Rule(
      f'{stacked}weight',
      tuple(f'{path}/{part}/kernel' for part in _PARTS),
      tree.split_rows(3, tree.linear_kernel),
    ),
    tree.Rule(
      f'{stacked}bias',
      tuple(f'{path}/{part}/bias' for part in _PARTS),
      tree.split_rows(3),
    ),
    *tree.linear(out, f'{path}/out'),
  )


def joint_block_rules(
  block: str, path: str, *, last: bool = False
) -> tuple[tree.Rule, ...]:
  """Rules of diffusers' joint blocks -> `JointBlock`.

  Args:
    block: pattern of a block's name.
    path: path of the block, or of the stacked blocks.
    last: whether it is a network's last block, whose text modulation has two
      parts.
  """
  return (
    *modulation_rules(rf'{block}\.norm1', f'{path}/image/modulation'),
    *modulation_rules(
      rf'{block}\.norm1_context', f'{path}/text/modulation', two=last
    ),
    *(
      rule
      for official, ours in _JOINT_LAYERS.items()
      for rule in tree.linear(rf'{block}\.{official}', f'{path}/{ours}')
    ),
  )


def modulation_rules(
  name: str, path: str, *, two: bool = False
) -> tuple[tree.Rule, tree.Rule]:
  """Rules of diffusers' adaptive norms -> `joint_block.Modulation`.

  Args:
    name: pattern of the norm's name.
    path: path of the module.
    two: whether it is an `AdaLayerNormContinuous`, whose scale precedes its
      shift; the six parts of `AdaLayerNormZero` are in our order.
  """
  order = tree.swap_halves if two else tree.identity
  kernel = lambda weight: tree.linear_kernel(order(weight))
  return (
    tree.Rule(rf'{name}\.linear\.weight', f'{path}/dense/kernel', kernel),
    tree.Rule(rf'{name}\.linear\.bias', f'{path}/dense/bias', order),
  )
