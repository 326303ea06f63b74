"""The Inception network of FID -> `Inception` parameters.

The files of torch-fidelity and pytorch-fid contain the same conversion of
TensorFlow's weights, under the same names.
"""

from softdimo_jax.convert import tree
from softdimo_jax.convert.format import CheckpointFormat, Converted, StateDict
from softdimo_jax.convert.shapes import Options, Shapes, image
from softdimo_jax.networks.inception import Inception

# Classes of torchvision's Inception; FID's has 1008.
_IMAGENET_CLASSES = 1000


def _unit_rules(name: str, path: str) -> tuple[tree.Rule, ...]:
  """Rules of a `BasicConv2d`, whose statistics become parameters."""
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


def convert_inception(state_dict: StateDict, model: Inception) -> Converted:
  """torch-fidelity's `FeatureExtractorInceptionV3` -> parameters."""
  target = tree.parameter_shapes(model, image(model.resolution))
  return tree.convert(state_dict, RULES, target)


def inception_options(shapes: Shapes) -> Options:
  """Options of `Inception`; the first layer determines all widths."""
  num_classes = shapes['fc.weight'][0]
  if num_classes == _IMAGENET_CLASSES:
    raise tree.ConversionError(
      f"{num_classes} classes mean torchvision's Inception, whose pooling "
      "differs from FID's"
    )
  return {
    'width': shapes['Conv2d_1a_3x3.conv.weight'][0],
    'num_classes': num_classes,
  }


INCEPTION = CheckpointFormat(
  Inception,
  'Conv2d_1a_3x3.conv.weight',
  inception_options,
  convert_inception,
)
