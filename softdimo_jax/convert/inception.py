"""The Inception network of FID -> `Inception` parameters.

torch-fidelity's file and pytorch-fid's hold the same conversion of TensorFlow's
weights, under the same names.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from softdimo_jax.convert import tree
from softdimo_jax.networks.inception import Inception

# Counts training steps; not every file has it.
_COUNTER = r'.+\.bn\.num_batches_tracked'


def _unit_rules(name: str, path: str) -> tuple[tree.Rule, ...]:
  """Rules of a `BasicConv2d`; its statistics are parameters of ours."""
  return (
    tree.Rule(
      rf'{name}\.conv\.weight', f'{path}/conv/kernel', tree.conv_kernel
    ),
    *tree.norm(rf'{name}\.bn', f'{path}/norm'),
    tree.Rule(
      rf'{name}\.bn\.(?P<moment>running_\w+)', rf'{path}/norm/\g<moment>'
    ),
  )


RULES = (
  *_unit_rules(r'(Conv2d_\w+)', r'\1'),
  *_unit_rules(r'(Mixed_\w+)\.(\w+)', r'\1/\2'),
  tree.Rule(r'fc\.weight', 'fc/kernel', tree.linear_kernel),
  tree.Rule(r'fc\.bias', 'fc_bias'),
)


def convert_inception(
  state_dict: Mapping[str, tree.Array], model: Inception
) -> tuple[tree.Params, tree.Report]:
  """Official Inception state dict -> parameters of `model`.

  Args:
    state_dict: of torch-fidelity's `FeatureExtractorInceptionV3`.
    model: module of the checkpoint's sizes.

  Raises:
    ConversionError: if the two do not fit.
  """
  side = model.resolution
  images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  target = tree.parameter_shapes(model, images)
  return tree.convert(state_dict, RULES, target, ignored=[_COUNTER])
