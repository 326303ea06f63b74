"""Mean and spread over several runs as a Markdown table.

python -m softdimo_jax.summarize runs/seed0 runs/seed1 runs/seed2
"""

import collections
import json
import pathlib

import numpy as np

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.report import table
from softdimo_jax.runtime import cli

_NAMES = ('model', 'steps', 'guidance_scale')
# Those of class labels, then those of prompts; a run has one kind.
_COLUMNS = (
  *_NAMES,
  *('fid', 'precision', 'recall', 'accuracy', 'copy_rate'),
  *('exact', 'overall', 'color_attr', 'occupied', 'unrecognised'),
  *('clip', 'clip_held_out', 'preference', 'preference_held_out'),
  *('max_probability', 'delta_share'),
)
_SPREAD = ('fid', 'exact', 'overall')


def main(argv: list[str]) -> None:
  """Prints one row for each row that the runs share."""
  if len(argv) < 2:
    raise UserError('name the workdirs of the runs, e.g. runs/seed0 runs/seed1')
  rows = summarize(argv[1:])
  columns = [x for x in _COLUMNS if any(x in row for row in rows)]
  print(table.format_markdown_table(rows, columns))


def summarize(workdirs: list[str]) -> list[dict[str, object]]:
  """Means and standard deviations (ddof 1) over runs, in the first's order.

  Raises:
    UserError: if a run has no results.
  """
  groups = collections.defaultdict(list)
  for workdir in workdirs:
    for row in _rows(pathlib.Path(workdir)):
      groups[tuple(row[name] for name in _NAMES)].append(row)
  return [_merge(rows) for rows in groups.values()]


def _merge(rows: list[dict[str, object]]) -> dict[str, object]:
  merged = {name: rows[0][name] for name in _NAMES}
  for column in _COLUMNS[len(_NAMES) :]:
    values = [row[column] for row in rows if row.get(column) is not None]
    if values:
      merged[column] = float(np.mean(values))
    if len(values) > 1 and column in _SPREAD:
      merged[f'{column}_std'] = float(np.std(values, ddof=1))
  return merged


def _rows(workdir: pathlib.Path) -> list[dict[str, object]]:
  path = workdir / 'results.json'
  if not path.exists():
    raise UserError(f'{path} does not exist; finish that run first')
  return json.loads(path.read_text('utf-8'))['rows']


if __name__ == '__main__':
  cli.run(main)
