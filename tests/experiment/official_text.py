"""Official text-to-image checkpoints at a size that fits together, by rule.

The entries are those of the fixtures, some of them resized.
"""

import json
import pathlib
import re

from softdimo_jax.convert import command
from softdimo_jax.convert.rule_weights import rule_state_dict
from tests.convert import torch_format

GOLDEN = pathlib.Path(__file__).parents[1] / 'golden'
TEXT_WIDTH, TEXT_LENGTH, TEXT_ROWS = 32, 12, 514

_OPENCLIP = {
  'token_embedding.weight': (TEXT_ROWS, 32),
  'positional_embedding': (TEXT_LENGTH, 32),
  'text_projection': (32, 32),
}
_HF_CLIP = {
  'text_model.embeddings.token_embedding.weight': (TEXT_ROWS, 32),
  'text_projection.weight': (32, 32),
}
_TATITOK = {
  'latent_tokens': (16, 32),
  'encoder.latent_token_positional_embedding': (16, 32),
  'decoder.latent_token_positional_embedding': (16, 48),
  'decoder.text_guidance_proj.weight': (48, TEXT_WIDTH),
  'decoder.text_guidance_positional_embedding': (TEXT_LENGTH, 48),
  'quantize.embedding.weight': (40, 8),
  'quantize.embed_prob': (40,),
}
_WIDER = {16: 32, 32: 64, 24: 32}

# family, fixture, sizes of entries or of all axes, what no shape tells
SYSTEMS = {
  'maskgen': {
    'teacher': (
      'maskgen',
      'maskgen_generator',
      {
        'text_embed_proj.weight': (32, TEXT_WIDTH),
        'cond_pooled_proj.weight': (32, TEXT_WIDTH + 16),
      },
      {'num_heads': 4, 'num_classes': 5},
    ),
    'tokenizer': ('tatitok', 'tatitok', _TATITOK, {}),
    'text': (
      'openclip_text',
      'openclip_text',
      _OPENCLIP,
      {'num_heads': 4, 'activation': 'quick_gelu'},
    ),
  },
  'meissonic': {
    'teacher': (
      'meissonic',
      'meissonic_transformer',
      {'context_embedder.weight': (32, TEXT_WIDTH)},
      {},
    ),
    # Its norms have 32 groups.
    'tokenizer': ('meissonic_vq', 'meissonic_vq', _WIDER, {}),
    'text': (
      'clip_text',
      'clip_text',
      _HF_CLIP,
      {'num_heads': 2, 'activation': 'gelu'},
    ),
  },
}
# A shipped configuration with the sizes of the converted checkpoints.
SMALL = """
import json

from configs import {system}


def get_config(variants='all'):
  config = {system}.get_config(variants)
  parts = dict(generator='teacher', tokenizer='tokenizer', text='text')
  for part, folder in parts.items():
    options = json.load(open({folder!r} + '/' + folder + '/model.json'))
    config.model[part].update(options['options'])
    config.pretrained[folder] = {folder!r} + '/' + folder
  if 'grid' in config.model.generator:
    config.model.generator.grid = (8, 8)
  for stage in ('dimo', 'softdimo'):
    config[stage].steps = 2
    config[stage].batch_size = 4
    config[stage].divergence.chunk = 0
  for section in ('generator', 'tokenizer', 'text'):
    config.model[section].dtype = 'float32'
  config.sampling.steps = 4
  config.data.prompts = {folder!r} + '/prompts'
  # Single bytes: the tower is too small for CLIP's.
  config.data.vocabulary = 'rule'
  places = dict(clip='clip', hpsv2='clip', pickscore='clip')
  for name, place in (places | dict(imagereward='image_reward')).items():
    config.rewards.weights[name] = {folder!r} + '/' + place
  config.rewards.update(
    clip_vocabulary='rule', bert_vocabulary='rule', dtype='float32'
  )
  return config
"""


def save(system: str, folder: pathlib.Path) -> None:
  """Writes official files as torch does, and converts them as a user does."""
  for role, (family, fixture, sizes, told) in SYSTEMS[system].items():
    manifest = json.loads((GOLDEN / f'{fixture}.json').read_text())
    entries = manifest['entries']
    if isinstance(entries, dict):
      (entries,) = entries.values()
    listing = [
      (name, _resized(name, shape, sizes), dtype)
      for name, shape, dtype in entries
      # A tower alone, as the text encoder of a pipeline is.
      if not re.match('visual|logit_scale', name)
    ]
    state = rule_state_dict(listing, tied=manifest.get('tied'))
    file = folder / f'{role}.bin'
    torch_format.save(file, state)
    command.run(
      command.Conversion(family, str(file), out=folder / role, overrides=told)
    )


def small_config(system: str, folder: pathlib.Path) -> pathlib.Path:
  """A configuration file of the checkpoints that `save` has written."""
  path = folder / 'small.py'
  path.write_text(SMALL.format(system=system, folder=str(folder)))
  return path


def _resized(name: str, shape: list[int], sizes: dict) -> tuple[int, ...]:
  if name in sizes:
    return sizes[name]
  return tuple(sizes.get(axis, axis) for axis in shape)
