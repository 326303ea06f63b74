"""Converts an official checkpoint into a folder that configurations name.

  python -m softdimo_jax.convert --family=maskbit --out=DIR \
    --weights=FILE_OR_HUB_ID
  python -m softdimo_jax.convert --family=maskbit --check \
    --manifest=tests/golden/maskbit_generator_14bit_full.json

Weights are a .pth, .pt, .bin, .ckpt, .safetensors or .msgpack file, its shards,
a folder that contains one, org/name on the Hugging Face Hub, or
org/name/path/in/repo. If a file contains averages, they are converted. Every
entry must be known and every parameter must be set. Sizes are inferred from the
shapes of the entries, and what shapes do not determine is read from the
configurations beside CLIP's weights, or given by the last five flags.
"""

import pathlib

from absl import flags

from softdimo_jax.convert import command, registry
from softdimo_jax.networks import layers
from softdimo_jax.runtime import cli, flag_types

_FAMILY = flags.DEFINE_enum(
  'family',
  None,
  tuple(registry.FORMATS),
  'Format of the checkpoint.',
  required=True,
)
_WEIGHTS = flag_types.path('weights', None, 'File, folder or Hub id.')
_OUT = flag_types.output('out', None, 'Folder to write; must not exist.')
_MANIFEST = flag_types.path(
  'manifest', None, 'JSON with `entries` of [name, shape, dtype], for --check.'
)
_CHECK = flags.DEFINE_bool('check', False, 'Report without writing anything.')
_TREE = flags.DEFINE_string(
  'tree',
  None,
  "Which of several trees in a file to read: keys joined by '/', or a prefix "
  'of the names. Default: averages if there are any, else the weights.',
)
_NUM_HEADS = flag_types.count(
  'num_heads',
  None,
  'Attention heads, if shapes do not determine them. Default: 16, but width / '
  '64 for text towers and the image towers of clip and image_reward (16 for '
  'ViT-H/14 and g/14).',
)
_TEXT_HEADS = flag_types.count(
  'text_heads',
  None,
  'Attention heads of the text tower of clip or image_reward. Default: width / '
  '64.',
)
_NUM_CLASSES = flag_types.count(
  'num_classes',
  None,
  'Classes of maskgit, google_maskgit or maskgen. Default: 1000.',
)
_NUM_GROUPS = flag_types.count(
  'num_groups',
  None,
  'Sub-tokens per position of a lookup-free maskbit_tokenizer. Default: 2.',
)
_ACTIVATION = flags.DEFINE_enum(
  'activation',
  None,
  tuple(layers.ACTIVATIONS),
  'Activation of a text tower, or both towers of clip. Default: that in '
  'config.json or open_clip_config.json beside the weights.',
)


def main(argv: list[str]) -> None:
  """Converts or checks a checkpoint."""
  cli.no_arguments(argv)
  overrides = {
    'num_heads': _NUM_HEADS.value,
    'text_heads': _TEXT_HEADS.value,
    'num_classes': _NUM_CLASSES.value,
    'num_groups': _NUM_GROUPS.value,
    'activation': _ACTIVATION.value,
  }
  command.run(
    command.Conversion(
      family=_FAMILY.value,
      weights=_WEIGHTS.value,
      manifest=_path(_MANIFEST.value),
      out=_path(_OUT.value),
      check=_CHECK.value,
      tree=_TREE.value,
      overrides={k: v for k, v in overrides.items() if v is not None},
    )
  )


def _path(value: str | None) -> pathlib.Path | None:
  return None if value is None else pathlib.Path(value)


if __name__ == '__main__':
  cli.run(main)
