"""Implementation of `python -m softdimo_jax.convert`."""

import contextlib
import dataclasses
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from softdimo_jax.convert import folder, registry, sources
from softdimo_jax.convert.shapes import Options
from softdimo_jax.convert.tree import ConversionError, Report, shortened
from softdimo_jax.errors import UserError
from softdimo_jax.runtime import lock
from softdimo_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Conversion:
  """The flags of a conversion.

  Attributes:
    family: name in the registry.
    weights: file, folder or Hub id; exclusive with `manifest`.
    manifest: listing of names and shapes, which can only be checked.
    out: folder to write.
    check: whether to write nothing.
    overrides: constructor options that shapes do not determine.
    tree: which of several trees in a file to read; None for the usual one.
  """

  family: str
  weights: str | None = None
  manifest: pathlib.Path | None = None
  out: pathlib.Path | None = None
  check: bool = False
  overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  tree: str | None = None


def run(conversion: Conversion) -> None:
  """Checks, converts and writes a checkpoint; prints a report.

  Raises:
    UserError: if the flags are inconsistent, the source cannot be read or does
      not fit the family exactly, or the folder cannot be written.
  """
  weights, manifest = conversion.weights, conversion.manifest
  if weights is None and manifest is not None:
    _run_manifest(conversion, manifest)
  elif weights is not None and manifest is None:
    _run_weights(conversion, weights)
  else:
    raise UserError('give --weights to convert, or --manifest and --check')


def _run_manifest(conversion: Conversion, manifest: pathlib.Path) -> None:
  if not conversion.check:
    raise UserError('a manifest has no weights to convert; add --check')
  if conversion.tree is not None:
    raise UserError('--tree is for --weights; a manifest has one tree')
  _check_out(conversion)
  _convert(conversion, manifest, sources.load_listing(manifest), None)


def _run_weights(conversion: Conversion, weights: str) -> None:
  _check_out(conversion)
  with contextlib.ExitStack() as stack:
    if conversion.out is not None:
      stack.enter_context(lock.held(conversion.out, beside=True))
    _write(conversion, weights)


def _write(conversion: Conversion, weights: str) -> None:
  """Checks and converts; writes unless only a check is wanted."""
  path = sources.locate(weights)
  state_dict = sources.load(path, conversion.tree)
  options, params = _convert(conversion, path, state_dict, path.parent)
  if conversion.out is None:
    return
  source = folder.Source(
    weights, path.name, sources.checksum(path), conversion.tree
  )
  folder.save_converted(
    conversion.out, conversion.family, options, params, source
  )
  print(f'written to {conversion.out}')


def _check_out(conversion: Conversion) -> None:
  if conversion.check == (conversion.out is not None):
    raise UserError('give --out to write a folder, or --check to write nothing')
  if conversion.out is not None:
    folder.check_new(conversion.out)


def _convert(
  conversion: Conversion,
  where: pathlib.Path,
  state_dict: registry.StateDict,
  config_folder: pathlib.Path | None,
) -> tuple[Options, Params]:
  """Options and parameters of a state dict, reported on standard output."""
  try:
    options = registry.infer(
      conversion.family, state_dict, conversion.overrides, config_folder
    )
    module = registry.build(conversion.family, options)
    print(f'{conversion.family}: {_described(options)}')
    params, report = registry.convert(conversion.family, state_dict, module)
  except ValueError as error:  # Modules that reject their options raise it too.
    if isinstance(error, ConversionError) and error.report is not None:
      _print(error.report)
    raise UserError(f'{where}: {error}') from error
  _print(report)
  sizes = [math.prod(leaf.shape) for leaf in jax.tree.leaves(params)]
  print(f'{sum(sizes):,} parameters')
  return options, params


def _described(options: Options) -> str:
  return ', '.join(f'{name}={value}' for name, value in options.items())


def _print(report: Report) -> None:
  """Prints one line per kind of name: their count and the first names."""
  for kind, names in dataclasses.asdict(report).items():
    print(f'{kind:<10} {len(names):>5}  {shortened(names)}'.rstrip())
