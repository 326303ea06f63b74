"""Converts an official checkpoint into a folder that configurations name.

  python -m softdimo_jax.convert --family=maskbit --out=DIR \
    --weights=FILE_OR_HUB_ID
  python -m softdimo_jax.convert --family=maskbit --check \
    --manifest=tests/golden/maskbit_generator_14bit_full.json

Weights are a .pth, .pt, .bin, .ckpt, .safetensors or .msgpack file, a folder
that holds one, org/name on the Hugging Face Hub, or org/name/path/in/repo.
Every entry has to be known and every parameter has to be set. Sizes are read
off the entries' shapes; the last five flags say what no shape tells.
"""

import pathlib

from absl import flags

from softdimo_jax.convert import command, registry
from softdimo_jax.networks import layers
from softdimo_jax.runtime import cli

_FAMILY = flags.DEFINE_enum(
  'family', None, tuple(registry.FORMATS), 'What the checkpoint is.'
)
_WEIGHTS = flags.DEFINE_string('weights', None, 'File, folder or Hub id.')
_OUT = flags.DEFINE_string('out', None, 'Folder to write; must not exist.')
_MANIFEST = flags.DEFINE_string(
  'manifest', None, 'JSON with `entries` of [name, shape, dtype], to check.'
)
_CHECK = flags.DEFINE_bool('check', False, 'Report and write nothing.')
_NUM_HEADS = flags.DEFINE_integer(
  'num_heads',
  None,
  'Attention heads, where no shape tells them: 16; of text towers, and of the '
  'image tower of a clip or image_reward, as many as width / 64, but 16 of '
  'ViT-H/14 and g/14.',
  1,
)
_TEXT_HEADS = flags.DEFINE_integer(
  'text_heads',
  None,
  'Attention heads of the text half of a clip or image_reward (width / 64).',
  1,
)
_NUM_CLASSES = flags.DEFINE_integer(
  'num_classes',
  None,
  'Classes (1000) of maskgit, google_maskgit and maskgen.',
  1,
)
_NUM_GROUPS = flags.DEFINE_integer(
  'num_groups', None, 'Sub-tokens (2) of a maskbit_tokenizer with bits.', 1
)
_ACTIVATION = flags.DEFINE_enum(
  'activation',
  None,
  tuple(layers.ACTIVATIONS),
  'Of a text tower: gelu of clip_text, quick_gelu of openclip_text. Of both '
  'towers of a clip: gelu of the widths of ViT-H/14 and g/14, else quick_gelu.',
)
flags.mark_flag_as_required('family')


def main(argv: list[str]) -> None:
  """Converts, or checks."""
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
      overrides={k: v for k, v in overrides.items() if v is not None},
    )
  )


def _path(value: str | None) -> pathlib.Path | None:
  return None if value is None else pathlib.Path(value)


if __name__ == '__main__':
  cli.run(main)
