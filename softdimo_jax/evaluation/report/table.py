"""Result rows as tables for a terminal, Markdown and the report."""

import dataclasses
import numbers
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from softdimo_jax.evaluation.report.columns import COLUMNS, Column

MISSING = '-'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """A table of formatted cells.

  Attributes:
    titles: title of each column.
    rows: one cell per column in each row.
    numeric: whether each column is numeric, hence right-aligned.
  """

  titles: tuple[str, ...]
  rows: tuple[tuple[str, ...], ...]
  numeric: tuple[bool, ...]


def default_columns(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
  """Keys with a value in some row: known ones first, in reading order.

  `x_std` is omitted if `x` is a column, because the cell of x shows it.
  """
  present = dict.fromkeys(
    key for row in rows for key, value in row.items() if value is not None
  )
  known = [key for key in COLUMNS if key in present]
  extra = [key for key in present if key not in COLUMNS]
  return tuple(
    key
    for key in (*known, *extra)
    if not (key.endswith('_std') and key.removesuffix('_std') in present)
  )


def make_table(
  rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None
) -> Table:
  """Formats rows; missing and None values become '-'.

  Args:
    rows: dicts as in results.json, with any keys.
    columns: keys to show, in order; `default_columns(rows)` if None.

  Returns:
    The formatted cells; a value x with a number `x_std` becomes 'x ± std'.
  """
  columns = default_columns(rows) if columns is None else tuple(columns)
  return Table(
    titles=tuple(map(_title, columns)),
    rows=tuple(tuple(_cell(row, key) for key in columns) for row in rows),
    numeric=tuple(
      all(_is_number(row.get(key)) or row.get(key) is None for row in rows)
      for key in columns
    ),
  )


def format_table(
  rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None
) -> str:
  """Plain-text table without a final newline; arguments as in `make_table`."""
  table = make_table(rows, columns)
  cells = (table.titles, *table.rows)
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  lines = [_aligned(line, widths, table.numeric, '  ') for line in cells]
  rule = '  '.join('-' * width for width in widths)
  return '\n'.join([lines[0].rstrip(), rule, *(x.rstrip() for x in lines[1:])])


def format_markdown_table(
  rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None
) -> str:
  """Markdown table without a final newline; arguments as in `make_table`."""
  table = make_table(rows, columns)
  cells = [
    tuple(cell.replace('|', r'\|').replace('\n', ' ') for cell in line)
    for line in (table.titles, *table.rows)
  ]
  widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
  lines = [
    f'| {_aligned(line, widths, table.numeric, " | ")} |' for line in cells
  ]
  rule = ' | '.join(
    '-' * (width - 1) + (':' if numeric else '-')
    for width, numeric in zip(widths, table.numeric, strict=True)
  )
  return '\n'.join([lines[0], f'| {rule} |', *lines[1:]])


def _title(key: str) -> str:
  return COLUMNS.get(key, Column()).title or key.replace('_', ' ')


def _is_number(value: Any) -> TypeGuard[float]:
  return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _cell(row: Mapping[str, Any], key: str) -> str:
  value, spread = row.get(key), row.get(f'{key}_std')
  text = _format_value(key, value)
  if not _is_number(value) or not _is_number(spread):
    return text
  return f'{text} ± {_format_value(key, float(spread))}'


def _format_value(key: str, value: Any) -> str:
  if value is None:
    return MISSING
  if isinstance(value, bool):
    return 'yes' if value else 'no'
  if isinstance(value, numbers.Integral):
    return str(value)
  if _is_number(value):
    return COLUMNS.get(key, Column()).text(value)
  return str(value)


def _aligned(
  cells: Sequence[str],
  widths: Sequence[int],
  numeric: Sequence[bool],
  separator: str,
) -> str:
  return separator.join(
    cell.rjust(width) if right else cell.ljust(width)
    for cell, width, right in zip(cells, widths, numeric, strict=True)
  )
