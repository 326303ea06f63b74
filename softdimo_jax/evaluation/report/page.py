"""The report of a run: one self-contained HTML file."""

import base64
import dataclasses
import importlib.resources
import os
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import numpy as np

from softdimo_jax.evaluation.report.comparison import compare
from softdimo_jax.evaluation.report.plots import Curve, render_curve
from softdimo_jax.evaluation.report.table import make_table
from softdimo_jax.evaluation.sets.pictures import encode_png, image_grid
from softdimo_jax.runtime.files import write_atomically

_TEMPLATE = 'report.html.jinja'
# Largest width of a grid; four grids of 8 x 8 small images fit side by side.
_GRID_PIXELS = 560


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
  """Samples of one model.

  Attributes:
    title: name of the model or setting.
    caption: one sentence on steps, guidance or what to notice; may be empty.
    images: float [N, H, W, C] in [0, 1], C of 1 or 3, N >= 1.
    columns: tiles per row; by default the grid is about square.
    tile_pixels: narrower images are enlarged up to this width, by the largest
      integer factor.
  """

  title: str
  caption: str
  images: np.ndarray
  columns: int | None = None
  tile_pixels: int = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
  """Contents of a report; all texts are plain, not HTML.

  Attributes:
    title: heading of the page.
    summary: paragraphs below the heading.
    rows: results, as in results.json, with any keys (see `table.make_table`);
      the page begins with their comparison with the paper.
    grids: samples, shown side by side.
    curves: small plots.
    config: configuration of the run, as text.
    notes: how the numbers were computed: counts, floors, feature network.
  """

  title: str
  summary: Sequence[str] = ()
  rows: Sequence[Mapping[str, Any]] = ()
  grids: Sequence[Grid] = ()
  curves: Sequence[Curve] = ()
  config: str = ''
  notes: Sequence[str] = ()


def render_report(report: Report) -> str:
  """Renders HTML without scripts or links, with images as data URIs.

  Raises:
    ValueError: if images or series have wrong shapes (see `image_grid`,
      `Curve`).
  """
  source = importlib.resources.files('softdimo_jax.evaluation.report').joinpath(
    _TEMPLATE
  )
  environment = jinja2.Environment(
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  template = environment.from_string(source.read_text('utf-8'))
  return template.render(
    report=report,
    comparison=make_table(compare([report.rows])),
    table=make_table(report.rows),
    group_starts=_group_starts(report.rows),
    grids=[_picture(grid) for grid in report.grids],
    curves=[
      (curve.title, _data_uri('image/svg+xml', render_curve(curve)))
      for curve in report.curves
    ],
  )


def write_report(path: str | os.PathLike[str], report: Report) -> None:
  """Writes the report to an HTML file atomically; errors as `render_report`."""
  write_atomically(path, render_report(report))


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Picture:
  """An encoded grid; `width` and `height` are CSS pixels."""

  title: str
  caption: str
  uri: str
  width: int
  height: int
  enlarged: bool


def _picture(grid: Grid) -> _Picture:
  image_width = np.shape(grid.images)[2]
  scale = max(grid.tile_pixels // image_width, 1)
  pixels = image_grid(grid.images, grid.columns, scale=scale, padding=2)
  height, width = pixels.shape[:2]
  shrink = min(1.0, _GRID_PIXELS / width)
  return _Picture(
    title=grid.title,
    caption=grid.caption,
    uri=_data_uri('image/png', encode_png(pixels)),
    width=round(width * shrink),
    height=round(height * shrink),
    enlarged=scale > 1,
  )


def _data_uri(mime_type: str, data: bytes) -> str:
  return f'data:{mime_type};base64,{base64.b64encode(data).decode()}'


def _group_starts(rows: Sequence[Mapping[str, Any]]) -> list[bool]:
  """Whether each row starts a new model, which the table marks with a line."""
  models = [row.get('model') for row in rows]
  return [i > 0 and models[i] != models[i - 1] for i in range(len(models))]
