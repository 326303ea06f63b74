"""Builds a family from a configuration, by the names of its modules."""

from typing import Any

import flax.linen as nn
import jax
import ml_collections

from softdimo_jax.families.family import Family
from softdimo_jax.networks.generators.google_maskgit import (
  GoogleMaskGitTransformer,
)
from softdimo_jax.networks.generators.maskbit import (
  MaskBitTableTransformer,
  MaskBitTransformer,
)
from softdimo_jax.networks.generators.maskgen import MaskGenTransformer
from softdimo_jax.networks.generators.maskgit import MaskGitTransformer
from softdimo_jax.networks.generators.meissonic import MeissonicTransformer
from softdimo_jax.networks.rewards.clip import CLIP, CLIPImageTower
from softdimo_jax.networks.text.clip import CLIPTextTower
from softdimo_jax.networks.tokenizers.diffusers_vq import DiffusersVQ
from softdimo_jax.networks.tokenizers.maskbit import MaskBitTokenizer
from softdimo_jax.networks.tokenizers.patch_vq import PatchVQ
from softdimo_jax.networks.tokenizers.taming_vqgan import TamingVQGAN
from softdimo_jax.networks.tokenizers.tatitok import TATiTok

_MODULES = {
  'generator': {
    'maskgit': MaskGitTransformer,
    'maskbit': MaskBitTransformer,
    'maskbit_table': MaskBitTableTransformer,
    'google_maskgit': GoogleMaskGitTransformer,
    'maskgen': MaskGenTransformer,
    'meissonic': MeissonicTransformer,
  },
  'tokenizer': {
    'taming_vqgan': TamingVQGAN,
    'maskbit': MaskBitTokenizer,
    'patch_vq': PatchVQ,
    'diffusers_vq': DiffusersVQ,
    'tatitok': TATiTok,
  },
}


def build(config: ml_collections.ConfigDict) -> Family:
  """Builds the family of a configuration.

  `config.generator` and `config.tokenizer` have a `name` and the module's
  constructor arguments. Text-conditional generators also need `config.text`,
  the arguments of `CLIPTextTower`, and `config.micro` if they read
  micro-conditions.

  Raises:
    ValueError: if a name is unknown or sizes of the modules do not match.
  """
  generator = _module('generator', config.generator)
  tokenizer = _module('tokenizer', config.tokenizer)
  _check_vocabulary(generator, tokenizer)
  _check_positions(generator, tokenizer)
  name = config.generator.name
  if not generator.reads_text:
    if tokenizer.reads_text:
      raise ValueError(
        f'tokenizer {config.tokenizer.name!r} reads text, but generator '
        f'{name!r} is class-conditional'
      )
    return Family(name, generator, tokenizer)
  text = CLIPTextTower(**config.text)
  _check_text(generator, tokenizer, text)
  micro = tuple(config.get('micro', ()))
  expected = generator.condition_shape().micro
  count = 0 if expected is None else expected.shape[-1]
  if len(micro) != count:
    raise ValueError(
      f'the generator reads {count} micro-conditions, config.micro has '
      f'{len(micro)}'
    )
  return Family(name, generator, tokenizer, text, micro)


def build_clip(config: ml_collections.ConfigDict, family: Family) -> CLIP:
  """CLIP with the family's text tower; `config` is for `CLIPImageTower`."""
  return CLIP(CLIPImageTower(**config), family.text_tower)


def _module(role: str, config: ml_collections.ConfigDict) -> Any:
  known = _MODULES[role]
  arguments = config.to_dict()
  name = arguments.pop('name')
  if name not in known:
    raise ValueError(
      f'{role} {name!r} is unknown; choose one of {tuple(known)}'
    )
  return known[name](**arguments)


def _check_vocabulary(generator: nn.Module, tokenizer: nn.Module) -> None:
  groups, rows, _ = _table_shape(generator)  # the mask is the last row
  ours, theirs = (groups, rows - 1), _table_shape(tokenizer)[:2]
  if ours != theirs:
    raise ValueError(
      f'the generator has {ours[0]} groups of {ours[1]} codes, but the '
      f'tokenizer has {theirs[0]} of {theirs[1]}'
    )


def _table_shape(module: nn.Module) -> tuple[int, ...]:
  table, _ = jax.eval_shape(
    lambda key: module.init_with_output(key, method='table'),
    jax.random.key(0),
  )
  return table.shape


def _check_positions(generator: nn.Module, tokenizer: nn.Module) -> None:
  height, width, _ = tokenizer.image_shape(generator.length)
  rows, columns = generator.grid or (height, width)
  if rows * width != columns * height:
    raise ValueError(
      f'the generator has a grid of {rows} x {columns}, but images of the '
      f'tokenizer are {height} x {width}'
    )


def _check_text(
  generator: nn.Module, tokenizer: nn.Module, tower: CLIPTextTower
) -> None:
  read = generator.condition_shape()
  sizes = [
    ('generator', 'text of width', read.states.shape[-1], tower.width),
    (
      'generator',
      'pooled text of width',
      read.pooled.shape[-1],
      tower.projection_width,
    ),
  ]
  if tokenizer.reads_text:
    sizes += [
      ('tokenizer', 'text of width', tokenizer.text_width, tower.width),
      ('tokenizer', 'text of length', tokenizer.text_length, tower.length),
    ]
  for reader, what, ours, theirs in sizes:
    if ours != theirs:
      raise ValueError(
        f'the {reader} reads {what} {ours}, but the text tower has {theirs}'
      )
