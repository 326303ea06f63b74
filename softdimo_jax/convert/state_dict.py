"""Extracts a flat state dict, by official name, from a checkpoint's object.

A file may hold several trees of arrays: weights, their averages, a
discriminator, states of optimisers. Averages are preferred, what is left out is
said, and a choice that is not clear is refused.
"""

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from absl import logging
from flax import traverse_util

from softdimo_jax.convert.tree import ConversionError

# Keys under which trainers store the weights, next to optimiser states.
_WEIGHTS = ('model_state_dict', 'state_dict', 'params', 'model', 'module')
# Words in the keys of averages: ema, params_ema, EMA, ema_state_dict, modelEma.
_AVERAGES = re.compile(
  r'(?:^|[^a-z])(?:ema|swa|avg|average[sd]?|shadow|polyak)(?:$|[^a-z])'
)
# Keys of trees that may contain averages of gradients, but none of weights.
_OPTIMIZERS = re.compile(r'opt|optim|sched|scaler|grad|lr_', re.IGNORECASE)
_LIT = 'model_ema.'
# Prefixes that DataParallel, torch.compile and Flax add to all names.
_PREFIXES = ('module.', '_orig_mod.', 'params/')
# Depth to which averages are looked for.
_DEPTH = 4
_CHOOSE = 'convert it with python -m softdimo_jax.convert and --tree=NAME'


def extract(
  checkpoint: Any, array_type: type, where: str, tree: str | None = None
) -> dict[str, Any]:
  """The state dict in a checkpoint: official name -> array.

  Args:
    checkpoint: content of the file: the state dict itself, which may be a tree,
      or a mapping with the state dict, or its averages, under one of the usual
      keys.
    array_type: type of the arrays.
    where: the file, for what is said.
    tree: keys that lead to the state dict, joined by '/', or a prefix of its
      names; None for the rule above.

  Raises:
    ConversionError: if there is no state dict, it contains something else, or
      there are several and `tree` names none.
  """
  if not isinstance(checkpoint, Mapping):
    raise ConversionError(
      'expected a state dict, not an object of type '
      f'{type(checkpoint).__name__}'
    )
  read = functools.partial(_chosen, array_type=array_type, where=where)
  chosen = _named(checkpoint, tree, read) if tree else read(checkpoint)
  flat = traverse_util.flatten_dict(dict(chosen))
  state = {'/'.join(map(str, path)): leaf for path, leaf in flat.items()}
  for name, leaf in state.items():
    if not isinstance(leaf, array_type):
      raise ConversionError(
        f'{name} is not a tensor, but an object of type {type(leaf).__name__}'
      )
  return state if tree else _with_lit_averages(state, where)


def _with_lit_averages(state: dict[str, Any], where: str) -> dict[str, Any]:
  """The weights with the averages of LitEma, whose names have lost their dots.

  LitEma (latent diffusion, taming) stores `a.b.weight` of the model, or of its
  part `model`, as `model_ema.abweight`.
  """
  averages = {
    name.removeprefix(_LIT): leaf
    for name, leaf in state.items()
    if name.startswith(_LIT)
  }
  if not averages.keys() >= {'decay', 'num_updates'}:
    return state
  del averages['decay'], averages['num_updates']
  kept = {k: v for k, v in state.items() if not k.startswith(_LIT)}
  names = [
    {name.removeprefix(start).replace('.', ''): name for name in kept}
    for start in ('', 'model.')
  ]
  for squeezed, leaf in averages.items():
    found = next((x[squeezed] for x in names if squeezed in x), None)
    if found is None or kept[found].shape != leaf.shape:
      raise ConversionError(
        f'its averages {_LIT}{squeezed} belong to no entry; for the weights '
        f'without averages, remove the entries {_LIT}*'
      )
    kept[found] = leaf
  say(f'{where}: reads the averages {_LIT}*, and leaves out their weights')
  return kept


def strip_prefixes(state: Mapping[str, Any]) -> dict[str, Any]:
  """Strips a common wrapper prefix such as `module.` from the names."""
  state = dict(state)
  while prefix := _common_prefix(state):
    state = {name.removeprefix(prefix): leaf for name, leaf in state.items()}
  return state


@functools.cache
def say(sentence: str) -> None:
  """Warns once; files are read more than once."""
  logging.warning('%s', sentence)


def _named(
  checkpoint: Mapping[str, Any],
  tree: str,
  read: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> Mapping[str, Any]:
  """The tree at the end of a path of keys, or the names with a prefix.

  Prefixes are those of names in the checkpoint or in its weights, from `read`.
  """
  found: Any = checkpoint
  for key in tree.split('/'):
    found = found.get(key) if isinstance(found, Mapping) else None
  if isinstance(found, Mapping):
    return found
  prefix = f'{tree}.'
  names = checkpoint
  if not any(str(name).startswith(prefix) for name in names):
    names = read(checkpoint)
  part = {
    name.removeprefix(prefix): leaf
    for name, leaf in names.items()
    if str(name).startswith(prefix)
  }
  if not part:
    keys = ', '.join(str(key) for key in list(checkpoint)[:10])
    raise ConversionError(f'there is no --tree={tree}; its keys are {keys}')
  return part


def _chosen(
  checkpoint: Mapping[str, Any],
  array_type: type,
  where: str,
  path: tuple[str, ...] = (),
) -> Mapping[str, Any]:
  """The tree of weights of a checkpoint, which may be the checkpoint.

  `path` are the keys that lead to it.
  """
  holding = {k: v for k, v in checkpoint.items() if _holds(v, array_type)}
  averages = dict(_averages(holding, array_type))
  trees = {k: v for k, v in holding.items() if isinstance(v, Mapping)}
  weights = [key for key in _WEIGHTS if key in trees]
  if not averages and not weights:
    weights = [key for key, tree in trees.items() if _is_flat(tree, array_type)]
  names = list(averages) or weights
  if not names:
    return checkpoint
  if len(names) > 1:
    kind = 'averages' if averages else 'trees'
    full = ['/'.join((*path, str(name))) for name in names]
    raise ConversionError(
      f'it contains several {kind} ({", ".join(full)}); {_CHOOSE}'
    )
  name = names[0]
  tree = averages.get(name, checkpoint.get(name))
  if not isinstance(tree, Mapping) or not all(isinstance(x, str) for x in tree):
    raise ConversionError(
      f'its averages {name} have no names of parameters, and so cannot be used;'
      f' for the weights without averages, {_CHOOSE}'
    )
  left = [str(key) for key in holding if key != name]
  if left:
    kind = 'the averages ' if averages else ''
    say(f'{where}: reads {kind}{name}, and leaves out {", ".join(left)}')
  return _chosen(tree, array_type, where, (*path, str(name)))


def _averages(
  tree: Mapping[Any, Any], array_type: type, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, Any]]:
  """Yields (keys joined by '/', content) of averages of weights."""
  for key, value in tree.items():
    keys = (*path, str(key))
    if isinstance(value, array_type) or not _holds(value, array_type):
      continue
    if _is_average(keys[-1]):
      yield '/'.join(keys), value
    elif (
      isinstance(value, Mapping)
      and len(keys) < _DEPTH
      and not _OPTIMIZERS.match(keys[-1])
      and not (not path and key in _WEIGHTS)
    ):
      yield from _averages(value, array_type, keys)


def _is_average(key: str) -> bool:
  words = re.sub(r'(?<=[a-z])(?=[A-Z])', '_', key)
  return bool(_AVERAGES.search(words.lower()))


def _is_flat(tree: Mapping[Any, Any], array_type: type) -> bool:
  """Whether a tree has torch's names, such as `layers.0.weight`."""
  return any(
    isinstance(leaf, array_type) and '.' in str(name)
    for name, leaf in tree.items()
  )


def _holds(value: Any, array_type: type) -> bool:
  if isinstance(value, Mapping):
    return any(_holds(item, array_type) for item in value.values())
  if isinstance(value, list | tuple):
    return any(_holds(item, array_type) for item in value)
  return isinstance(value, array_type)


def _common_prefix(state: Mapping[str, Any]) -> str | None:
  for prefix in _PREFIXES:
    if state and all(name.startswith(prefix) for name in state):
      return prefix
  return None
