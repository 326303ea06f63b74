r"""Renames and reshapes a flat official state dict into a parameter tree.

A format has a list of rules. A rule gives a pattern of official names, the path
of their arrays and a transform of their axes:

    Rule(r'blocks\.(?P<layer>\d+)\.norm\.weight', 'blocks/norm/scale')
    Rule(r'(encoder|decoder)\.out\.weight', r'\1/out/kernel', linear_kernel)

`convert` is strict: every official entry matches exactly one rule or is
declared ignorable, and every parameter of the target is set, with its shape.
Entries are arrays, or `jax.ShapeDtypeStruct` to check a listing of names and
shapes without weights.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from softdimo_jax.convert.constants import is_constant
from softdimo_jax.types import Params

Array = Any  # np.ndarray, jax.Array or jax.ShapeDtypeStruct
Transform = Callable[[Array], Array | tuple[Array, ...]]

# Maximum number of names in a message.
_NAMED = 3


class ConversionError(ValueError):
  """An official state dict does not fit the rules or the target.

  Attributes:
    report: report of the conversion, if it got that far.
  """

  report: 'Report | None' = None


def identity(array: Array) -> Array:
  """The array unchanged, for norms, biases, tables and codebooks."""
  return array


def scalar(array: Array) -> Array:
  """An array of one number [], [1] or [1, 1] -> []."""
  return array.reshape(())


def linear_kernel(weight: Array) -> Array:
  """torch Linear [out, in] -> Dense kernel [in, out]."""
  return weight.T


def conv_kernel(weight: Array) -> Array:
  """torch Conv2d [O, I, kh, kw] -> Conv kernel [kh, kw, I, O]."""
  return weight.transpose(2, 3, 1, 0)


def pointwise_kernel(weight: Array) -> Array:
  """torch Conv2d [out, in, 1, 1] -> Dense kernel [in, out]."""
  if weight.shape[2:] != (1, 1):
    raise ValueError('expected a 1x1 kernel')
  return weight[:, :, 0, 0].T


def swap_halves(array: Array) -> Array:
  """Swaps the halves of axis 0."""
  return array.reshape(2, -1, *array.shape[1:])[::-1].reshape(array.shape)


def split_rows(parts: int, transform: Transform = identity) -> Transform:
  r"""Splits axis 0 into `parts` equal arrays and transforms each of them.

  torch's MultiheadAttention stores query, key and value this way:
  `Rule(r'attn\.in_proj_weight', ('query/kernel', 'key/kernel',
  'value/kernel'), split_rows(3, linear_kernel))`.
  """

  def split(array: Array) -> tuple[Array, ...]:
    pieces = array.reshape(parts, -1, *array.shape[1:])
    return tuple(transform(pieces[i]) for i in range(parts))

  return split


@dataclasses.dataclass(frozen=True)
class Rule:
  r"""Destination of the entries whose official name matches `pattern`.

  Attributes:
    pattern: regular expression for the full name. A group named `layer` is the
      index of the entry on a new axis 0 of its leaf: entries 0..N-1 that differ
      in it are stacked (parameters under `nn.scan`).
    path: path of the leaf, joined by '/', with references to the pattern's
      groups (`\1`, `\g<name>`); several paths if `transform` returns several
      arrays.
    transform: transform of one entry, before stacking.
  """

  pattern: str
  path: str | tuple[str, ...]
  transform: Transform = identity

  @property
  def paths(self) -> tuple[str, ...]:
    return (self.path,) if isinstance(self.path, str) else self.path


def linear(pattern: str, path: str) -> tuple[Rule, Rule]:
  """Rules of a torch Linear named `pattern` -> Dense at `path`."""
  return _weight_and_bias(pattern, path, 'kernel', linear_kernel)


def conv(pattern: str, path: str) -> tuple[Rule, Rule]:
  """Rules of a torch Conv2d named `pattern` -> Conv at `path`."""
  return _weight_and_bias(pattern, path, 'kernel', conv_kernel)


def pointwise(pattern: str, path: str) -> tuple[Rule, Rule]:
  """Rules of a 1x1 torch Conv2d named `pattern` -> Dense at `path`."""
  return _weight_and_bias(pattern, path, 'kernel', pointwise_kernel)


def norm(pattern: str, path: str) -> tuple[Rule, Rule]:
  """Rules of a torch LayerNorm or GroupNorm -> the Flax one at `path`."""
  return _weight_and_bias(pattern, path, 'scale', identity)


def _weight_and_bias(
  pattern: str, path: str, leaf: str, transform: Transform
) -> tuple[Rule, Rule]:
  return (
    Rule(rf'{pattern}\.weight', f'{path}/{leaf}', transform),
    Rule(rf'{pattern}\.bias', f'{path}/bias'),
  )


def under(root: str, rules: Iterable[Rule]) -> tuple[Rule, ...]:
  """The rules of a module, moved to the submodule `root`."""
  return tuple(
    dataclasses.replace(
      rule, path=tuple(f'{root}/{path}' for path in rule.paths)
    )
    for rule in rules
  )


@dataclasses.dataclass(frozen=True)
class Report:
  """Names of a conversion.

  Attributes:
    used: official entries that became parameters.
    ignored: official entries declared ignorable.
    missing: paths of parameters that no entry sets.
    unexpected: official entries that match no rule.
  """

  used: tuple[str, ...]
  ignored: tuple[str, ...]
  missing: tuple[str, ...]
  unexpected: tuple[str, ...]

  def check(self) -> None:
    """Raises ConversionError if a name is missing or unexpected."""
    problems = []
    if self.unexpected:
      names = shortened(self.unexpected)
      problems.append(f'no rule matches the official entries {names}')
    if self.missing:
      names = shortened(self.missing)
      problems.append(f'no official entry sets the parameters {names}')
    if problems:
      error = ConversionError('; '.join(problems))
      error.report = self
      raise error


def parameter_shapes(module: nn.Module, *inputs: Array, **kwargs) -> Params:
  """Parameters of `module.init`, as a tree of `jax.ShapeDtypeStruct`."""
  key = jax.random.key(0)
  return jax.eval_shape(
    lambda *arrays: module.init(key, *arrays, **kwargs)['params'], *inputs
  )


def convert(
  state_dict: Mapping[str, Array],
  rules: Iterable[Rule],
  target: Params,
  *,
  ignored: Iterable[str] = (),
  strict: bool = True,
) -> tuple[Params, Report]:
  """Applies `rules` to an official state dict.

  Args:
    state_dict: official name -> array or `jax.ShapeDtypeStruct`.
    rules: rules, of which every entry matches exactly one, unless `ignored`.
    target: parameter tree whose leaves have `shape` and `dtype`, as from
      `parameter_shapes`; entries are cast to the dtype.
    ignored: patterns of full official names to ignore, beside the buffers of
      `constants`.
    strict: whether missing parameters and unexpected entries are errors;
      otherwise the report lists them and the tree lacks the missing leaves.

  Returns:
    The parameter tree and the report.

  Raises:
    ConversionError: if the state dict does not fit the rules and the target.
  """
  rules, ignored = tuple(rules), tuple(ignored)
  expected = traverse_util.flatten_dict(target, sep='/')
  pieces: dict[str, dict[int | None, Array]] = {}
  used, skipped, unexpected = [], [], []
  for name, array in state_dict.items():
    if _is_ignored(name, array, ignored):
      skipped.append(name)
    elif matched := _find_rule(name, rules):
      _place(name, array, *matched, pieces)
      used.append(name)
    else:
      unexpected.append(name)
  leaves = {
    path: _finish(path, parts, expected) for path, parts in pieces.items()
  }
  report = Report(
    used=tuple(used),
    ignored=tuple(skipped),
    missing=tuple(path for path in expected if path not in leaves),
    unexpected=tuple(unexpected),
  )
  if strict:
    report.check()
  return traverse_util.unflatten_dict(leaves, sep='/'), report


def _is_ignored(name: str, array: Array, patterns: tuple[str, ...]) -> bool:
  try:
    known = is_constant(name, array)
  except ValueError as error:
    raise ConversionError(str(error)) from error
  return known or any(re.fullmatch(pattern, name) for pattern in patterns)


def _find_rule(
  name: str, rules: tuple[Rule, ...]
) -> tuple[Rule, re.Match] | None:
  matches = [
    (rule, match)
    for rule in rules
    if (match := re.fullmatch(rule.pattern, name))
  ]
  if len(matches) > 1:
    raise ConversionError(
      f'{name} matches two rules, {matches[0][0].pattern} and '
      f'{matches[1][0].pattern}'
    )
  return matches[0] if matches else None


def _place(
  name: str,
  array: Array,
  rule: Rule,
  match: re.Match,
  pieces: dict[str, dict[int | None, Array]],
) -> None:
  """Transforms one entry and files it under its leaves and layer."""
  if not jnp.issubdtype(array.dtype, jnp.floating):
    raise ConversionError(
      f'{name} has dtype {array.dtype}, not a floating-point one; convert '
      'weights that are not quantised'
    )
  if not isinstance(array, jax.ShapeDtypeStruct) and not _is_finite(array):
    raise ConversionError(
      f'{name} contains NaN or infinity; the file is damaged, or its training '
      'diverged'
    )
  layer = match.groupdict().get('layer')
  layer = None if layer is None else int(layer)
  try:
    results = _run(rule.transform, array)
  except (TypeError, ValueError) as error:
    raise ConversionError(
      f'{name} of shape {tuple(array.shape)} cannot be transformed: {error}'
    ) from error
  results = results if isinstance(results, tuple) else (results,)
  for path, result in zip(rule.paths, results, strict=True):
    parts = pieces.setdefault(match.expand(path), {})
    if layer in parts or (parts and (layer is None or None in parts)):
      raise ConversionError(f'{name} sets {match.expand(path)} a second time')
    parts[layer] = result


def _is_finite(array: Array) -> bool:
  return bool(np.isfinite(np.asarray(array)).all())


def _finish(
  path: str, parts: dict[int | None, Array], expected: dict[str, Array]
) -> Array:
  """One leaf from its parts: stacked, checked and cast."""
  if path not in expected:
    raise ConversionError(f'the target has no parameter {path}')
  if None in parts:
    leaf = parts[None]
  else:
    layers = range(max(len(parts), *expected[path].shape[:1]))
    if missing := [layer for layer in layers if layer not in parts]:
      raise ConversionError(
        f'no official entry sets layers {missing} of {path}'
      )
    leaf = _stack([parts[layer] for layer in layers])
  shape, dtype = expected[path].shape, expected[path].dtype
  if leaf.shape != shape:
    raise ConversionError(
      f'{path} has shape {tuple(leaf.shape)}, expected {tuple(shape)}'
    )
  return _run(lambda array: array.astype(dtype), leaf)


def _run(transform: Transform, *arrays: Array) -> Array | tuple[Array, ...]:
  """Applies a transform to arrays, or evaluates its shapes abstractly."""
  if isinstance(arrays[0], jax.ShapeDtypeStruct):
    return jax.eval_shape(transform, *arrays)
  return transform(*map(np.asarray, arrays))


def _stack(arrays: list[Array]) -> Array:
  if isinstance(arrays[0], jax.ShapeDtypeStruct):
    return jax.eval_shape(lambda *parts: jnp.stack(parts), *arrays)
  return np.stack(arrays)


def shortened(names: Sequence[str]) -> str:
  """The first names, and the number of further ones."""
  rest = len(names) - _NAMED
  return ', '.join(names[:_NAMED]) + (f' and {rest} more' if rest > 0 else '')
