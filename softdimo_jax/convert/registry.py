"""The table of formats of official checkpoints that can be converted."""

import inspect
import pathlib
from collections.abc import Mapping
from typing import Any

from softdimo_jax.convert.clip import CLIP_MODEL
from softdimo_jax.convert.clip_text import CLIP_TEXT, OPENCLIP_TEXT
from softdimo_jax.convert.diffusers_vq import MEISSONIC_VQ
from softdimo_jax.convert.format import Converted, StateDict
from softdimo_jax.convert.google_maskgit import GOOGLE_MASKGIT, GOOGLE_TOKENIZER
from softdimo_jax.convert.image_reward import IMAGE_REWARD
from softdimo_jax.convert.inception import INCEPTION
from softdimo_jax.convert.linear_head import AESTHETIC_HEAD
from softdimo_jax.convert.maskbit import MASKBIT, MASKBIT_TABLE
from softdimo_jax.convert.maskbit_tokenizer import MASKBIT_TOKENIZER
from softdimo_jax.convert.maskgen import MASKGEN
from softdimo_jax.convert.maskgit import MASKGIT
from softdimo_jax.convert.meissonic import MEISSONIC
from softdimo_jax.convert.shapes import Options, Shapes
from softdimo_jax.convert.state_dict import say
from softdimo_jax.convert.taming_vqgan import TAMING_VQGAN
from softdimo_jax.convert.tatitok import TATITOK
from softdimo_jax.convert.tree import ConversionError, shortened

FORMATS = {
  'maskgit': MASKGIT,
  'taming_vqgan': TAMING_VQGAN,
  'maskbit': MASKBIT,
  'maskbit_table': MASKBIT_TABLE,
  'maskbit_tokenizer': MASKBIT_TOKENIZER,
  'google_maskgit': GOOGLE_MASKGIT,
  'google_tokenizer': GOOGLE_TOKENIZER,
  'maskgen': MASKGEN,
  'tatitok': TATITOK,
  'meissonic': MEISSONIC,
  'meissonic_vq': MEISSONIC_VQ,
  'image_reward': IMAGE_REWARD,
  'aesthetic_head': AESTHETIC_HEAD,
  # Before the text towers, because whole models have their marks too.
  'clip': CLIP_MODEL,
  'clip_text': CLIP_TEXT,
  'openclip_text': OPENCLIP_TEXT,
  'inception': INCEPTION,
}


def infer(
  name: str,
  state_dict: StateDict,
  overrides: Mapping[str, Any],
  folder: pathlib.Path | None = None,
) -> Options:
  """Constructor options of a checkpoint's module.

  Args:
    name: name of the format.
    state_dict: official name -> array or `jax.ShapeDtypeStruct`.
    overrides: options that shapes do not determine, if they differ from the
      released checkpoints'; they precede `folder`.
    folder: folder of the weights, whose configuration files are read.

  Raises:
    ConversionError: if the checkpoint has another format or impossible shapes,
      the format does not take an override, or neither shapes nor configuration
      determine an option.
  """
  known = FORMATS[name]
  if not known.has(state_dict):
    raise ConversionError(_not_of(name, state_dict))
  taken = inspect.signature(known.options).parameters
  for option in overrides:
    if option not in taken:
      raise ConversionError(f'{name} does not take --{option}')
  shapes = Shapes.of(state_dict)
  try:
    read = known.config(folder, shapes) if known.config and folder else {}
    for option, value in overrides.items():
      if read.get(option, value) != value:
        say(f'{folder}: takes {option}={value}, not {read[option]} as there')
    return known.options(shapes, **{**read, **overrides})
  except ConversionError:
    raise
  except (IndexError, ValueError, ZeroDivisionError) as error:
    raise ConversionError(
      f'the shapes of the entries do not fit any {name} checkpoint'
    ) from error


def build(name: str, options: Mapping[str, Any]) -> Any:
  """Module of a format.

  Args:
    name: name of the format.
    options: constructor options from `infer`; tuples may have become lists in
      JSON.

  Raises:
    KeyError: if the format is unknown.
    TypeError: if an option is unknown.
  """
  return FORMATS[name].module(
    **{
      option: tuple(value) if isinstance(value, list) else value
      for option, value in options.items()
    }
  )


def convert(name: str, state_dict: StateDict, module: Any) -> Converted:
  """Parameters of a module from `build`, and a report.

  Raises:
    ConversionError: if the entries do not fit exactly.
  """
  try:
    return FORMATS[name].convert(state_dict, module)
  except ConversionError:
    raise
  # Modules whose sizes make no sense fail in many ways.
  except Exception as error:
    raise ConversionError(
      f'the entries do not fit any {name} checkpoint '
      f'({type(error).__name__}: {error})'
    ) from error


def _not_of(name: str, state_dict: StateDict) -> str:
  fitting = [other for other, known in FORMATS.items() if known.has(state_dict)]
  if fitting:
    return f'this is a checkpoint of the family {fitting[0]}, not {name}'
  marks = FORMATS[name].marks
  prefixes = [
    entry.removesuffix(f'.{mark}')
    for entry in state_dict
    for mark in marks
    if entry.endswith(f'.{mark}')
  ]
  hint = f'; its first entries are {shortened(list(state_dict)) or "none"}'
  if prefixes:
    hint = f'; give --tree={" or --tree=".join(prefixes)}'
  return (
    f'not a {name} checkpoint: there is no official entry '
    f'{" or ".join(marks)}{hint}'
  )
