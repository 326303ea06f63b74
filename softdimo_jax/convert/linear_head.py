"""The aesthetic predictor's head -> `LinearHead` parameters."""

import jax
import jax.numpy as jnp

from softdimo_jax.convert import tree
from softdimo_jax.convert.format import CheckpointFormat, Converted, StateDict
from softdimo_jax.convert.shapes import Options, Shapes
from softdimo_jax.networks.rewards.head import LinearHead

# Indices of the linear layers in the official Sequential; the others are
# dropout, which has no entries.
OFFICIAL_LAYERS = (0, 2, 4, 6, 7)


def head_rules(prefix: str = '') -> tuple[tree.Rule, ...]:
  """Rules of the official `MLP`; its names begin with the pattern `prefix`."""
  return tuple(
    rule
    for ours, theirs in enumerate(OFFICIAL_LAYERS)
    for rule in tree.linear(rf'{prefix}layers\.{theirs}', f'dense_{ours}')
  )


def convert_aesthetic_head(
  state_dict: StateDict, head: LinearHead
) -> Converted:
  """Official `MLP` state dict -> parameters of `head`.

  The file is sac+logos+ava1-l14-linearMSE.pth of
  christophschuhmann/improved-aesthetic-predictor.
  """
  width = Shapes.of(state_dict)['layers.0.weight'][1]
  features = jax.ShapeDtypeStruct((1, width), jnp.float32)
  target = tree.parameter_shapes(head, features)
  return tree.convert(state_dict, head_rules(), target)


def aesthetic_head_options(shapes: Shapes) -> Options:
  """Options of `LinearHead`."""
  return {'widths': head_widths(shapes, '')}


def head_widths(shapes: Shapes, prefix: str) -> tuple[int, ...]:
  """Widths of the layers whose names begin with `prefix`."""
  return tuple(
    shapes[f'{prefix}layers.{number}.weight'][0] for number in OFFICIAL_LAYERS
  )


AESTHETIC_HEAD = CheckpointFormat(
  LinearHead,
  'layers.0.weight',
  aesthetic_head_options,
  convert_aesthetic_head,
)
