"""Curves as SVG images, without a display or global plot state."""

import dataclasses
import io
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Mid-tones, which contrast with both light and dark pages.
_INK = '#757b84'
_COLOURS = (
  '#3b82c4',
  '#e07b39',
  '#3f9e6b',
  '#b565c9',
  '#c94f5d',
  '#2ba5b0',
  '#98922f',
  '#8d6e63',
)
_LINE_STYLES = ('-', '--', ':', '-.')

_SETTINGS: dict[Any, Any] = {
  'axes.edgecolor': _INK,
  'axes.labelcolor': _INK,
  'axes.spines.right': False,
  'axes.spines.top': False,
  'font.size': 8,
  'text.color': _INK,
  'xtick.color': _INK,
  'ytick.color': _INK,
  'svg.hashsalt': 'softdimo_jax',  # deterministic ids
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
  """One small plot.

  Attributes:
    title: heading of the plot.
    x_label: label of the horizontal axis.
    y_label: label of the vertical axis.
    series: name -> (x [N], y [N]); non-finite values are gaps.
    log_y: whether the vertical axis is logarithmic; values <= 0 are then gaps.
  """

  title: str
  x_label: str
  y_label: str
  series: Mapping[str, tuple[np.ndarray, np.ndarray]]
  log_y: bool = False


def render_curve(curve: Curve) -> bytes:
  """Renders a plot as a deterministic SVG file with a transparent background.

  Raises:
    ValueError: if x and y of a series are not vectors of equal length.
  """
  with matplotlib.rc_context(_SETTINGS):
    figure = Figure(figsize=(4.2, 2.8), layout='constrained')
    axes = figure.add_subplot()
    _draw_series(axes, curve)
    axes.set(xlabel=curve.x_label, ylabel=curve.y_label)
    if curve.log_y:
      axes.set_yscale('log', nonpositive='mask')
    axes.grid(color=_INK, alpha=0.2, linewidth=0.5)
    if len(curve.series) > 1:
      # Above the axes, where it hides no points.
      figure.legend(loc='outside upper center', ncols=2, frameon=False)
    return _to_svg(figure)


def _draw_series(axes: Axes, curve: Curve) -> None:
  for index, (name, (x, y)) in enumerate(curve.series.items()):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
      raise ValueError(
        f'series {name!r} of {curve.title!r}: x and y must be vectors of equal'
        f' length, got shapes {x.shape} and {y.shape}'
      )
    colour = _COLOURS[index % len(_COLOURS)]
    style = _LINE_STYLES[index // len(_COLOURS) % len(_LINE_STYLES)]
    # A few points are evaluations, not a training curve: mark each of them.
    marker = 'o' if len(x) <= 20 else ''
    axes.plot(
      x,
      y,
      style,
      color=colour,
      label=name,
      linewidth=1.3,
      marker=marker,
      markersize=3,
    )


def _to_svg(figure: Figure) -> bytes:
  buffer = io.BytesIO()
  no_metadata = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
  figure.savefig(buffer, format='svg', transparent=True, metadata=no_metadata)
  return buffer.getvalue()
