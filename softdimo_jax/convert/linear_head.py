"""The aesthetic predictor's head -> `LinearHead` parameters."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from softdimo_jax.convert import tree
from softdimo_jax.convert.sizes import Shapes
from softdimo_jax.networks.rewards.head import LinearHead

# Numbers of the linear layers in the official Sequential; between them lies
# dropout, which has no entries.
OFFICIAL_LAYERS = (0, 2, 4, 6, 7)


def head_rules(prefix: str = '') -> tuple[tree.Rule, ...]:
  """Rules of the official `MLP`, whose names begin like the pattern."""
  return tuple(
    rule
    for ours, theirs in enumerate(OFFICIAL_LAYERS)
    for rule in tree.linear(rf'{prefix}layers\.{theirs}', f'dense_{ours}')
  )


def convert_aesthetic_head(
  state_dict: Mapping[str, tree.Array], head: LinearHead
) -> tuple[tree.Params, tree.Report]:
  """Official `MLP` state dict -> parameters of `head`.

  Args:
    state_dict: sac+logos+ava1-l14-linearMSE.pth of
      christophschuhmann/improved-aesthetic-predictor.
    head: module of the checkpoint's sizes.

  Raises:
    ConversionError: if the two do not fit.
  """
  width = Shapes.of(state_dict)['layers.0.weight'][1]
  features = jax.ShapeDtypeStruct((1, width), jnp.float32)
  target = tree.parameter_shapes(head, features)
  return tree.convert(state_dict, head_rules(), target)
