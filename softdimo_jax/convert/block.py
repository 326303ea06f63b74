"""Rules of torch transformer blocks -> `layers.Block` under `nn.scan`."""

from softdimo_jax.convert import tree

_PARTS = ('query', 'key', 'value')


def block_rules(inner: str, mlp_out: int) -> tuple[tree.Rule, ...]:
  r"""Rules of the blocks that MaskGit and MaskBit number alike.

  `transformer.layers.N.0` is attention and `transformer.layers.N.1` the MLP,
  each with its `norm`.

  Args:
    inner: what stands between a sub-layer and its modules: r'fn\.' or ''.
    mlp_out: index of the MLP's second Linear in its Sequential.
  """
  layer = r'transformer\.layers\.(?P<layer>\d+)'
  attention = rf'{layer}\.0\.{inner}mha'
  mlp = rf'{layer}\.1\.{inner}net'
  return (
    *tree.norm(rf'{layer}\.0\.norm', 'layers/attention_norm'),
    *tree.norm(rf'{layer}\.1\.norm', 'layers/mlp_norm'),
    tree.Rule(
      rf'{attention}\.in_proj_weight',
      tuple(f'layers/attention/{part}/kernel' for part in _PARTS),
      tree.split_rows(3, tree.linear_kernel),
    ),
    tree.Rule(
      rf'{attention}\.in_proj_bias',
      tuple(f'layers/attention/{part}/bias' for part in _PARTS),
      tree.split_rows(3),
    ),
    *tree.linear(rf'{attention}\.out_proj', 'layers/attention/out'),
    *tree.linear(rf'{mlp}\.0', 'layers/mlp_in'),
    *tree.linear(rf'{mlp}\.{mlp_out}', 'layers/mlp_out'),
  )
