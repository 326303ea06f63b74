import base64
import html.parser
import io
import re

import numpy as np
import PIL.Image
import pytest

from softdimo_jax.evaluation.report.page import (
  Grid,
  Report,
  render_report,
  write_report,
)
from softdimo_jax.evaluation.report.plots import Curve
from softdimo_jax.evaluation.sets.pictures import image_grid


class Page(html.parser.HTMLParser):
  """Collects what a reader sees, and every address the page refers to."""

  def __init__(self, source):
    super().__init__()
    self.tags, self.addresses, self.images, self.cells = [], [], {}, []
    self.feed(source)

  def handle_starttag(self, tag, attributes):
    attributes = dict(attributes)
    self.tags.append(tag)
    self.addresses += [
      value for key, value in attributes.items() if key in ('src', 'href')
    ]
    if tag == 'img':
      self.images[attributes['alt']] = attributes
    if tag == 'tr':
      self.cells.append([])

  def handle_data(self, data):
    if self.cells and self.lasttag in ('td', 'th') and data.strip():
      self.cells[-1].append(data.strip())


def random_grid(title, shape=(6, 8, 8, 1), **options):
  images = np.random.default_rng(0).random(shape)
  return Grid(title=title, caption=f'About {title}.', images=images, **options)


def make_report():
  x = np.arange(40)
  return Report(
    title='Digits & more',
    summary=('First paragraph.', 'Second with <script>alert(1)</script>.'),
    rows=(
      {'model': 'teacher', 'steps': 16, 'fid': 5.7, 'fid_std': 0.1},
      {'model': 'teacher', 'steps': 1, 'fid': 41.7, 'entropy': 0.5},
      {'model': 'softdimo', 'steps': 1, 'fid': 17.6},
    ),
    grids=(
      random_grid('Teacher, 16 steps'),
      random_grid('Soft-Di[M]O', (4, 256, 256, 3), columns=4),
    ),
    curves=(
      Curve(
        title='Divergence',
        x_label='update',
        y_label='loss',
        series={'Di[M]O': (x, np.exp(-x / 10))},
        log_y=True,
      ),
    ),
    config='seed: 0\nname: "<digits>"',
    notes=('k = 3.', 'Floor: real against real.'),
  )


@pytest.fixture(scope='module')
def source():
  return render_report(make_report())


@pytest.fixture(scope='module')
def page(source):
  return Page(source)


def decode(image):
  data = base64.b64decode(image['src'].partition(';base64,')[2])
  with PIL.Image.open(io.BytesIO(data)) as opened:
    return np.asarray(opened)


def test_is_self_contained(source, page):
  assert page.addresses
  assert all(address.startswith('data:') for address in page.addresses)
  assert not {'link', 'script', 'iframe', 'object'} & set(page.tags)
  assert not re.search(r'https?:|@import|url\(', source)


def test_text_is_escaped(source):
  assert 'Digits &amp; more' in source
  assert '&lt;script&gt;alert(1)' in source
  assert 'name: &#34;&lt;digits&gt;&#34;' in source


def test_holds_every_paragraph_and_note(source):
  for text in ('First paragraph.', 'k = 3.', 'Floor: real against real.'):
    assert text in source


def test_holds_every_row(page):
  assert page.cells[3:] == [
    ['model', 'steps', 'FID', 'entropy'],
    ['teacher', '16', '5.700 ± 0.100', '-'],
    ['teacher', '1', '41.700', '0.5'],
    ['softdimo', '1', '17.600', '-'],
  ]


def test_begins_with_the_comparison_with_the_paper(page, source):
  assert page.cells[:3] == [
    ['claim', 'metric', 'paper', 'here', 'order holds'],
    ['Soft-Di[M]O / teacher, same guidance', 'FID', '0.94', '3.09', 'no'],
    ['Soft-Di[M]O / best teacher', 'FID', '0.94', '3.09', 'no'],
  ]
  assert source.index('The paper and this run') < source.index('Samples')


def test_models_are_set_apart(source):
  assert source.count('<tr class="group">') == 1


def test_holds_every_grid_and_curve(page, source):
  titles = ['Teacher, 16 steps', 'Soft-Di[M]O', 'Divergence']
  assert list(page.images) == titles
  assert 'About Soft-Di[M]O.' in source
  assert page.images['Divergence']['src'].startswith('data:image/svg+xml')


def test_small_images_are_enlarged_by_whole_pixels(page):
  image = page.images['Teacher, 16 steps']
  images = make_report().grids[0].images
  expected = image_grid(images, scale=4, padding=2)[..., 0]
  np.testing.assert_array_equal(decode(image), expected)
  shown = int(image['height']), int(image['width'])
  assert shown == expected.shape
  assert image['class'] == 'enlarged'


def test_large_images_keep_their_pixels_and_are_shown_smaller(page):
  image = page.images['Soft-Di[M]O']
  height, width = decode(image).shape[:2]
  assert width > 4 * 256 > int(image['width'])
  shown = int(image['width']) / int(image['height'])
  assert shown == pytest.approx(width / height, rel=0.01)


def test_empty_report_has_no_empty_sections():
  page = Page(render_report(Report(title='Nothing yet')))
  assert 'h1' in page.tags
  assert not {'h2', 'table', 'img', 'pre'} & set(page.tags)


def test_is_reproducible_and_written_whole(tmp_path, source):
  path = tmp_path / 'run' / 'report.html'
  write_report(path, make_report())
  assert path.read_text('utf-8') == source
  assert list(path.parent.iterdir()) == [path]
