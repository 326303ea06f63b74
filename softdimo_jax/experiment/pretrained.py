"""Parameters that a run takes from elsewhere instead of training them."""

import dataclasses
import pathlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from softdimo_jax.convert.folder import is_converted, load_converted
from softdimo_jax.convert.rule_weights import rule_params
from softdimo_jax.convert.tree import parameter_shapes
from softdimo_jax.errors import UserError
from softdimo_jax.families.family import Family
from softdimo_jax.runtime import checkpoint
from softdimo_jax.types import Params

WEIGHTS = ('converted', 'rule')
# Fields of a module that do not change what its parameters mean.
_FREE = (
  *('parent', 'name', 'dropout', 'table_scale', 'timestep_mode'),
  *('grid', 'dtype', 'attention', 'remat', 'unroll'),
)


def load(
  family: Family, stage: str, weights: str, folder: str, role: str = 'model'
) -> Params | None:
  """Parameters of a stage that the run does not have itself.

  Args:
    family: whose modules they must fit.
    stage: 'tokenizer', 'text' (the tower that reads the prompts), else a
      generator.
    weights: 'converted' reads the folder; 'rule' makes them up, for trying a
      full-size run without downloads.
    folder: that `python -m softdimo_jax.convert` wrote, or the folder of a
      finished stage of another run.
    role: 'model', or 'auxiliary' of a finished distillation.

  Returns:
    The parameters; None for an auxiliary that the folder does not have.

  Raises:
    UserError: if the folder is missing, broken or of another model.
  """
  module, shapes = expected(family, stage)
  if weights == 'rule':
    return rule_params(shapes) if role == 'model' else None
  path = _existing(stage, folder)
  if is_converted(path):
    if role != 'model':  # only students are published
      return None
    found, params = load_converted(path)
    _check_module(stage, folder, found, module)
  else:
    params = checkpoint.load_params(path / 'params').get(role)
    if params is None:
      return None
  optional = ()
  if stage == 'tokenizer':  # Of a decoder alone the encoder may be left out.
    read = jax.eval_shape(family.init_decoder, jax.random.key(0))
    optional = tuple(shapes.keys() - read.keys() - params.keys())
  needed = {k: v for k, v in shapes.items() if k not in optional}
  _check_shapes(stage, folder, params, needed)
  return params


def meaningful_options(module: nn.Module) -> dict[str, Any]:
  """Fields of a module that change what its parameters mean."""
  return {
    field.name: getattr(module, field.name)
    for field in dataclasses.fields(module)
    if field.name not in _FREE
  }


def _existing(stage: str, folder: str) -> pathlib.Path:
  if not folder:
    raise UserError(
      f'config.pretrained.{stage} names no weights: convert the official ones '
      f'(python -m softdimo_jax.convert) and give --config.pretrained.{stage}='
      'DIR, or try the run with --config.weights=rule'
    )
  path = pathlib.Path(folder).expanduser().absolute()
  if not path.is_dir():
    raise UserError(f'config.pretrained.{stage}={folder} is no folder')
  return path


def expected(family: Family, stage: str) -> tuple[nn.Module, Params]:
  """(module, shapes of the parameters) of a stage, see `load`."""
  key = jax.random.key(0)
  if stage == 'tokenizer':
    return family.tokenizer, jax.eval_shape(family.init_tokenizer, key)
  if stage == 'text':
    return family.text, parameter_shapes(
      family.text, jax.ShapeDtypeStruct((1, family.text.length), jnp.int32)
    )
  return family.generator, jax.eval_shape(family.init, key)


def _check_module(
  stage: str, folder: str, found: nn.Module, module: nn.Module
) -> None:
  """Catches what no shape tells, such as another number of heads."""
  if type(found) is not type(module):
    raise UserError(
      f'{folder} holds a {type(found).__name__}; config.pretrained.{stage} '
      f'must be a {type(module).__name__}'
    )
  theirs = meaningful_options(found)
  for name, ours in meaningful_options(module).items():
    if theirs[name] != ours:
      raise UserError(
        f'{folder} has {name}={theirs[name]!r}, config.model has {ours!r}'
      )


def _check_shapes(
  stage: str, folder: str, params: Params, shapes: Params
) -> None:
  found, wanted = _named_shapes(params), _named_shapes(shapes)
  for name in sorted(found.keys() | wanted.keys()):
    if found.get(name) != wanted.get(name):
      raise UserError(
        f'config.pretrained.{stage}={folder} is of another size than '
        f'config.model: {name} is {found.get(name, "absent")} there, '
        f'{wanted.get(name, "absent")} here'
      )


def _named_shapes(tree: Params) -> dict[str, tuple[int, ...]]:
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  return {
    '/'.join(entry.key for entry in path): tuple(leaf.shape)
    for path, leaf in leaves
  }
