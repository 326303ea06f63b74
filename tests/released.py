"""Tiny networks of released kinds as converted folders, and vocabularies."""

import jax
import jax.numpy as jnp

from softdimo_jax.convert import folder, registry, tree
from softdimo_jax.convert.rule_weights import rule_params

SIZE, WIDTH = 8, 8
_TOWER = {'width': WIDTH, 'depth': 1, 'num_heads': 2, 'mlp_width': 8}
_IMAGE = {'resolution': SIZE, 'patch': 4, **_TOWER}
# As many ids as the made-up vocabularies have.
_CLIP_TEXT = {'vocab_size': 514, 'length': 12, **_TOWER}
_BERT = {'vocab_size': 250, 'length': 40, **_TOWER}
OPTIONS = {
  'clip': {
    'image': {**_IMAGE, 'projection_width': WIDTH},
    'text': {**_CLIP_TEXT, 'projection_width': WIDTH},
  },
  'image_reward': {'image': _IMAGE, 'text': _BERT, 'head_widths': (4, 1)},
  'aesthetic_head': {'widths': (4, 1)},
  'inception': {'width': 2, 'num_classes': 11, 'resolution': 75},
}


def module(family):
  return registry.build(family, OPTIONS[family])


def inputs(family):
  """Arguments that the module of a family takes."""
  if family == 'aesthetic_head':
    return [jnp.zeros((1, WIDTH))]
  side = OPTIONS[family].get('resolution', SIZE)
  images = jnp.zeros((1, side, side, 3))
  if family == 'inception':
    return [images]
  length = OPTIONS[family]['text']['length']
  return [images, jnp.zeros((1, length), jnp.int32)]


def params(family, seed=0):
  """By rule, and apart from each other by `seed`."""
  shapes = tree.parameter_shapes(module(family), *inputs(family))
  drawn = rule_params(shapes, kernel_gain=1.5)  # As Inception needs it.
  return jax.tree.map(lambda x: x * (1 + 0.1 * seed), drawn)


def save(path, family, seed=0):
  """Writes a converted folder and returns its name."""
  source = folder.Source('made up', 'none', '0')
  folder.save_converted(
    path, family, OPTIONS[family], params(family, seed), source
  )
  return str(path)
