import xml.etree.ElementTree

import numpy as np
import pytest

from softdimo_jax.evaluation.report.plots import Curve, render_curve


def make_curve(y=(3.0, 2.0, 1.0), **changes):
  series = {'train': (np.arange(3), np.asarray(y))}
  options = {'x_label': 'update', 'y_label': 'loss', 'series': series}
  return Curve(title='Loss', **(options | changes))


def test_is_svg_and_reproducible():
  svg = render_curve(make_curve())
  assert xml.etree.ElementTree.fromstring(svg).tag.endswith('svg')
  assert render_curve(make_curve()) == svg


def test_needs_no_display(monkeypatch):
  monkeypatch.delenv('DISPLAY', raising=False)
  monkeypatch.setenv('MPLBACKEND', 'TkAgg')
  assert render_curve(make_curve())


@pytest.mark.parametrize('log_y', [False, True])
def test_gaps_and_empty_series_are_drawn_over(log_y):
  assert render_curve(make_curve((np.nan, 0.0, 1.0), log_y=log_y))
  assert render_curve(make_curve((np.nan, np.nan, np.nan), log_y=log_y))
  assert render_curve(make_curve(series={'empty': ([], [])}, log_y=log_y))
  assert render_curve(make_curve(series={}, log_y=log_y))


def test_every_series_looks_different():
  x = np.arange(30)
  names = [f'run {i}' for i in range(12)]
  curve = make_curve(
    series={name: (x, x * (i + 1)) for i, name in enumerate(names)}
  )
  assert render_curve(curve).count(b'stroke-dasharray: ') >= 4


def test_mismatched_series():
  with pytest.raises(ValueError, match=r"'train' of 'Loss'.*\(3,\) and \(2,\)"):
    render_curve(make_curve((1.0, 2.0)))
