"""Pretrained parameters that a run loads instead of training them."""

import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.convert.folder import is_converted, load_converted
from softdimo_jax.convert.rule_weights import RULE, rule_params
from softdimo_jax.convert.tree import parameter_shapes
from softdimo_jax.errors import UserError
from softdimo_jax.families.family import Family
from softdimo_jax.networks.options import meaningful_options
from softdimo_jax.runtime import checkpoint
from softdimo_jax.types import Params

WEIGHTS = ('converted', RULE)


def load(
  family: Family, stage: str, weights: str, folder: str, role: str = 'model'
) -> Params | None:
  """Parameters of a stage that the run does not train.

  Args:
    family: modules that the parameters must fit.
    stage: 'tokenizer', 'text' (the text tower), or else a generator.
    weights: 'converted' reads the folder; 'rule' returns synthetic weights, to
      try a full-size run without downloads.
    folder: folder written by `python -m softdimo_jax.convert`, or folder of a
      finished stage of another run.
    role: 'model', or 'auxiliary' of a finished distillation.

  Returns:
    The parameters; None for an auxiliary that the folder does not have.

  Raises:
    UserError: if the folder is missing, damaged or of another model.
  """
  module, shapes = expected(family, stage)
  if weights == RULE:
    return rule_params(shapes) if role == 'model' else None
  path = _existing(stage, folder)
  if is_converted(path):
    if role != 'model':  # only students are published
      return None
    stored, params = load_converted(path)
    _check_module(stage, folder, stored, module)
  else:
    params = checkpoint.load_params(path / 'params').get(role)
    if params is None:
      return None
  optional = ()
  if stage == 'tokenizer':  # The encoder may be missing.
    read = jax.eval_shape(family.init_decoder, jax.random.key(0))
    optional = tuple(shapes.keys() - read.keys() - params.keys())
  needed = {k: v for k, v in shapes.items() if k not in optional}
  _check_shapes(stage, folder, params, needed)
  return params


def _existing(stage: str, folder: str) -> pathlib.Path:
  if not folder:
    raise UserError(
      f'config.pretrained.{stage} names no weights: convert the official ones '
      f'(python -m softdimo_jax.convert) and give --config.pretrained.{stage}='
      'DIR, or try the run with --config.weights=rule'
    )
  path = pathlib.Path(folder).expanduser().absolute()
  if not path.is_dir():
    raise UserError(f'config.pretrained.{stage}={folder} is not a folder')
  return path


def expected(family: Family, stage: str) -> tuple[nn.Module, Params]:
  """(module, shapes of its parameters) of a stage; see `load`."""
  key = jax.random.key(0)
  if stage == 'tokenizer':
    return family.tokenizer, jax.eval_shape(family.init_tokenizer, key)
  if stage == 'text':
    tower = family.text_tower
    return tower, parameter_shapes(
      tower, jax.ShapeDtypeStruct((1, tower.length), jnp.int32)
    )
  return family.generator, jax.eval_shape(family.init, key)


def _check_module(
  stage: str, folder: str, stored: nn.Module, module: nn.Module
) -> None:
  """Catches differences that no shape shows, such as the number of heads."""
  if type(stored) is not type(module):
    raise UserError(
      f'{folder} contains a {type(stored).__name__}; config.pretrained.{stage} '
      f'must be a {type(module).__name__}'
    )
  theirs = meaningful_options(stored)
  for name, ours in meaningful_options(module).items():
    if theirs[name] != ours:
      raise UserError(
        f'{folder} has {name}={theirs[name]!r}, but config.model has {ours!r}'
      )


def _check_shapes(
  stage: str, folder: str, params: Params, shapes: Params
) -> None:
  stored, needed = _named_shapes(params), _named_shapes(shapes)
  for name in sorted(stored.keys() | needed.keys()):
    if stored.get(name) != needed.get(name):
      raise UserError(
        f'config.pretrained.{stage}={folder} differs in size from '
        f'config.model: {name} is {stored.get(name, "absent")} there, but '
        f'{needed.get(name, "absent")} here'
      )


def _named_shapes(tree: Params) -> dict[str, tuple[int, ...]]:
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    '/'.join(entry.key for entry in path): tuple(leaf.shape)
    for path, leaf in leaves
  }
