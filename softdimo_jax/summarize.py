"""Several runs beside the paper, their means and standard deviations.

Both tables are Markdown.

python -m softdimo_jax.summarize runs/seed0 runs/seed1 runs/seed2
"""

import collections
import json
import math
import pathlib
import re
from typing import Any

import numpy as np

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.report import table
from softdimo_jax.evaluation.report.columns import COLUMNS, NAMES
from softdimo_jax.evaluation.report.comparison import compare
from softdimo_jax.experiment import config
from softdimo_jax.runtime import cli, paths
from softdimo_jax.runtime.files import unique_json


def main(argv: list[str]) -> None:
  """Prints one row per claim of the paper, then one row per model."""
  if len(argv) < 2:
    raise UserError('name the workdirs of the runs, e.g. runs/seed0 runs/seed1')
  workdirs = [_local(workdir) for workdir in argv[1:]]
  rows = summarize(workdirs)
  claims = compare([_rows(pathlib.Path(workdir)) for workdir in workdirs])
  if claims:
    print(table.format_markdown_table(claims), end='\n\n')
  print(table.format_markdown_table(rows))


def summarize(workdirs: list[str]) -> list[dict[str, Any]]:
  """Means and standard deviations (ddof 1), in the order of the first run.

  Raises:
    UserError: if a run has no results.json, or if the runs are not several
      seeds of one configuration.
  """
  _check_alike(workdirs)
  groups = collections.defaultdict(list)
  for workdir in workdirs:
    for row in _rows(pathlib.Path(workdir)):
      groups[tuple(row[name] for name in NAMES)].append(row)
  for names, rows in groups.items():
    if len(rows) != len(workdirs):
      raise UserError(
        f'{names[0]} has {len(rows)} rows in {len(workdirs)} runs, so that its '
        'mean would be over other runs than the rest; evaluate all runs again'
      )
  return [_merge(rows) for rows in groups.values()]


def _merge(rows: list[dict[str, Any]]) -> dict[str, Any]:
  merged = {name: rows[0][name] for name in NAMES}
  for name, column in COLUMNS.items():
    values = [row[name] for row in rows if row.get(name) is not None]
    if name in NAMES or not column.summary or not values:
      continue
    merged[name] = float(np.mean(values))
    if len(values) > 1 and column.spread:
      merged[f'{name}_std'] = float(np.std(values, ddof=1))
  return merged


def _check_alike(workdirs: list[str]) -> None:
  """A spread is that over seeds: all else must be equal, and seeds differ."""
  first, *others = workdirs
  seeds: dict[str, str] = {}
  for workdir in workdirs:
    seed, _ = _settings(workdir)
    if seed in seeds:
      raise UserError(
        f'{workdir} and {seeds[seed]} have the same seeds, so that they are '
        'one run twice; name runs with different --config.seed'
      )
    seeds[seed] = workdir
  _, expected = _settings(first)
  protocol = _results(pathlib.Path(first))['protocol']
  for workdir in others:
    changed = config.difference(expected, _settings(workdir)[1])
    if changed:
      raise UserError(
        f'{workdir} has another configuration than {first} ({changed}); '
        'summarize the runs of each configuration apart'
      )
    if _results(pathlib.Path(workdir))['protocol'] != protocol:
      raise UserError(
        f'{workdir} was measured by another protocol than {first} (section '
        '`protocol` of results.json); evaluate both by one version, with the '
        'same pretrained networks'
      )


def _settings(workdir: str) -> tuple[str, dict[str, Any]]:
  """(seeds, all other fields that the results depend on, by path)."""
  fields = config.meaning(_results(pathlib.Path(workdir))['config'])
  is_seed = lambda field: (
    re.fullmatch(r'([^.]+\.)?seed', field) and (not field.startswith('data.'))
  )
  seeds = {k: v for k, v in fields.items() if is_seed(k)}
  others = {
    k: v
    for k, v in fields.items()
    if k not in seeds and not k.startswith(f'{config.SPREAD}.')
  }
  return json.dumps(seeds, sort_keys=True), others


def _rows(workdir: pathlib.Path) -> list[dict[str, Any]]:
  return _results(workdir)['rows']


def _results(workdir: pathlib.Path) -> dict[str, Any]:
  path = workdir / 'results.json'
  if not path.exists():
    raise UserError(f'{path} does not exist; finish that run first')
  try:
    results = unique_json(path.read_text('utf-8'))
    for row in results['rows']:
      _check_row(row)
    config.meaning(results['config'])
    # Runs of before had none, and those without pretrained networks need none.
    return {'protocol': {'pretrained': {}}} | results
  except (ValueError, LookupError, TypeError, AttributeError) as error:
    raise UserError(
      f'{path} is not the results of a run ({error}); run '
      f'python -m softdimo_jax.main with --workdir={workdir} again'
    ) from error


def _check_row(row: dict[str, Any]) -> None:
  """Raises KeyError or ValueError unless its numbers can be averaged."""
  for name in NAMES:
    if not isinstance(row[name], str | int | float | None):
      raise ValueError(f'{name} is {row[name]!r}')
  for name, column in COLUMNS.items():
    value = row.get(name)
    if name == 'model' or not column.summary or value is None:
      continue
    if isinstance(value, bool) or not isinstance(value, int | float):
      raise ValueError(f'{name} is {value!r}, not a number')
    if not math.isfinite(value):
      raise ValueError(f'{name} is {value}')


def _local(workdir: str) -> str:
  try:
    return paths.local(workdir)
  except ValueError as error:
    raise UserError(f'{workdir} {error}') from error


if __name__ == '__main__':
  cli.run(main)
