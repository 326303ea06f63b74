"""Curves as SVG: the points that are drawn, and where."""

import xml.etree.ElementTree

import numpy as np
import pytest

from softdimo_jax.evaluation.report.plots import Curve, render_curve

SVG = '{http://www.w3.org/2000/svg}'
FIRST_COLOUR = '#3b82c4'


def make_curve(y=(3.0, 2.0, 1.0), **changes):
  series = {'train': (np.arange(len(y)), np.asarray(y))}
  options = {'x_label': 'update', 'y_label': 'loss', 'series': series}
  return Curve(title='Loss', **(options | changes))


def markers(svg, colour=FIRST_COLOUR):
  """Places [N, 2] of the points of a colour, y upwards from the lower edge."""
  root = xml.etree.ElementTree.fromstring(svg)
  height = float(root.get('viewBox').split()[3])
  places = [
    (float(mark.get('x')), height - float(mark.get('y')))
    for mark in root.iter(f'{SVG}use')
    if f'fill: {colour}' in mark.get('style', '')
  ]
  return np.reshape(places, (-1, 2))


def lines(svg):
  """Unbroken lines of the first series."""
  root = xml.etree.ElementTree.fromstring(svg)
  paths = [
    path.get('d')
    for path in root.iter(f'{SVG}path')
    if f'fill: none; stroke: {FIRST_COLOUR}' in path.get('style', '')
  ]
  return sum(path.count('M') for path in paths if path)


def test_points_stand_where_their_values_are():
  svg = render_curve(make_curve((0.0, 2.0, 1.0, 4.0)))
  root = xml.etree.ElementTree.fromstring(svg)
  assert (root.get('width'), root.get('height')) == ('302.4pt', '201.6pt')
  places = markers(svg)
  assert len(places) == 4 and lines(svg) == 1
  assert (places > 0).all() and (places < (302.4, 201.6)).all()
  across, up = (places - places[0]).T / (places[3] - places[0])[:, None]
  np.testing.assert_allclose(across, [0, 1 / 3, 2 / 3, 1], atol=1e-6)
  np.testing.assert_allclose(up, [0, 0.5, 0.25, 1], atol=1e-6)


def test_a_logarithmic_axis_takes_equal_steps_to_equal_ratios():
  up = markers(render_curve(make_curve((1.0, 10.0, 100.0), log_y=True)))[:, 1]
  np.testing.assert_allclose(up[2] - up[1], up[1] - up[0], rtol=1e-5)
  up = markers(render_curve(make_curve((1.0, 10.0, 100.0))))[:, 1]
  np.testing.assert_allclose(up[2] - up[1], 10 * (up[1] - up[0]), rtol=1e-5)


def test_same_input_same_bytes_without_a_display(monkeypatch):
  svg = render_curve(make_curve())
  monkeypatch.delenv('DISPLAY', raising=False)
  monkeypatch.setenv('MPLBACKEND', 'TkAgg')
  assert render_curve(make_curve()) == svg


@pytest.mark.parametrize(('log_y', 'drawn'), [(False, 5), (True, 4)])
def test_gaps_break_the_line(log_y, drawn):
  y = (np.nan, 0.0, 1.0, 2.0, np.nan, 5.0, 6.0)
  svg = render_curve(make_curve(y, log_y=log_y))
  assert len(markers(svg)) == drawn and lines(svg) == 2


@pytest.mark.parametrize('log_y', [False, True])
@pytest.mark.parametrize(
  'series',
  [{}, {'empty': ([], [])}, {'nan': (np.arange(3), np.full(3, np.nan))}],
)
def test_nothing_to_draw_is_an_empty_plot(series, log_y):
  svg = render_curve(make_curve(series=series, log_y=log_y))
  assert len(markers(svg)) == lines(svg) == 0
  assert b'<!-- update -->' in svg  # the axes are there


def test_every_series_looks_different():
  x = np.arange(30)
  names = [f'run {i}' for i in range(12)]
  curve = make_curve(
    series={name: (x, x * (i + 1)) for i, name in enumerate(names)}
  )
  root = xml.etree.ElementTree.fromstring(render_curve(curve))
  looks = {
    path.get('style')
    for path in root.iter(f'{SVG}path')
    if 'stroke-width: 1.3' in path.get('style', '')
  }
  assert len(looks) == 12


def test_mismatched_series():
  with pytest.raises(ValueError, match=r"'train' of 'Loss'.*\(3,\) and \(2,\)"):
    render_curve(make_curve(series={'train': (np.arange(3), np.ones(2))}))
