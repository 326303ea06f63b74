"""Images, captions and references, with inputs to damage."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from softdimo_jax.data.prompts import pairs, sources
from softdimo_jax.evaluation.sets import reference_file
from softdimo_jax.evaluation.sets.images import open_images
from tests.faults import damage
from tests.faults.damage import Change
from tests.faults.readers import Target, digest


def images(root: pathlib.Path, count: int, size: int = 8) -> None:
  """Noise as 0.png, 1.png, ..."""
  root.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(0)
  for number in range(count):
    pixels = rng.integers(0, 256, (size, size, 3), np.uint8)
    Image.fromarray(pixels).save(root / f'{number}.png')


def _paired(root: pathlib.Path) -> None:
  images(root / 'images', 12)
  rows = [f'{i},{i} circles' for i in range(12)]
  (root / 'a.csv').write_text('\n'.join(['image_id,caption', *rows, '']))


def _captions(root: pathlib.Path) -> list[str]:
  found = open_images(str(root / 'images'))
  prompts = sources.read_file(root / 'a.csv')
  return pairs.captions(prompts, found.available, found.chosen)


def _each_id(form: str) -> Change:
  def change(rows, rng):
    for row in rows[1:]:
      row[0] = form.format(int(row[0]))

  return damage.table_change(change)


def _cell(column: int, value: str) -> Change:
  def change(rows, rng):
    rng.choice(rows[1:])[column] = value

  return damage.table_change(change)


def _shuffled(rows, rng):
  body = rows[1:]
  rng.shuffle(body)
  rows[1:] = body


def _saved(**options) -> Change:
  """The same pixels in another PNG or palette."""

  def apply(path, rng):
    with Image.open(path) as image:
      image.load()
    mode = options.get('mode')
    (image.convert(mode) if mode else image).save(path, **options)

  return apply


KEEPS_PNG = {
  'compression': _saved(compress_level=0),
  'alpha': _saved(mode='RGBA'),
  'WebP': _saved(format='WebP', lossless=True),
  'a name': lambda path, _: path.rename(path.with_suffix('.PNG')) and None,
  'a hidden file': lambda path, _: (
    path.with_name('.x').write_text('x') and None
  ),
  'a text': lambda path, _: path.with_name('LICENSE').write_text('x') and None,
}
KEEPS_PAIRS = {
  'order': damage.table_change(_shuffled),
  'zeros': _each_id('{:012d}'),
  'suffixes': _each_id('{}.png'),
  'floats': _each_id('{}.0'),
  'one more': damage.table_change(lambda rows, _: rows.append(['77', 'x'])),
}
NO_PAIRS = {
  'a row less': damage.table_change(
    lambda rows, rng: rows.pop(rng.randrange(1, 12))
  ),
  'a row twice': damage.table_change(
    lambda rows, rng: rows.append(rng.choice(rows[1:]))
  ),
  'no id': _cell(0, ''),
  'another id': _cell(0, '77'),
  'a negative id': _cell(0, '-3'),
  'no caption': _cell(1, ''),
}


def _pixels(root: pathlib.Path) -> str:
  found = open_images(str(root / 'images'))
  return digest(found.read(0, len(found)))


def _reference(root: pathlib.Path) -> None:
  rng = np.random.default_rng(0)
  features = rng.normal(size=(40, 6))
  np.savez(
    root / 'r.npz',
    mu=features.mean(0),
    sigma=np.cov(features, rowvar=False),
    mu_s=features.mean(0),
    sigma_s=np.cov(features, rowvar=False),
    arr_0=rng.integers(0, 256, (5, 8, 8, 3), np.uint8),
  )


def _read_reference(root: pathlib.Path) -> str:
  found = reference_file.read_reference(root / 'r.npz')
  parts = [(x.mean, x.covariance) for x in (found.pool, found.spatial)]
  return digest([parts, list(reference_file.image_batches(root / 'r.npz', 2))])


def _npz(change: Callable[[dict, Any], None], save=np.savez) -> Change:
  def apply(path, rng):
    with np.load(path) as file:
      arrays = dict(file)
    change(arrays, rng)
    save(path, **arrays)

  return apply


def _set(name: str, function: Callable[[np.ndarray], Any]) -> Change:
  return _npz(lambda arrays, _: arrays.update({name: function(arrays[name])}))


def _with(array: np.ndarray, value: float) -> np.ndarray:
  changed = array.copy()
  changed.flat[1] = value
  return changed


NO_REFERENCE = damage.BROKEN | {
  'NaN': _set('mu', lambda x: _with(x, np.nan)),
  'infinity': _set('sigma', lambda x: _with(x, np.inf)),
  'a wide mean': _set('mu', lambda x: np.append(x, 0)),
  'a flat covariance': _set('sigma', np.ravel),
  'no symmetry': _set('sigma', lambda x: _with(x, 3)),
  'a negative variance': _set('sigma', lambda x: x - 9 * np.eye(6)),
  'complex numbers': _set('mu', lambda x: x + 1j),
  'texts': _set('mu', lambda x: x.astype(str)),
  'floats as images': _set('arr_0', lambda x: x / 255),
  'flat images': _set('arr_0', np.ravel),
  'no covariance': _npz(lambda arrays, _: arrays.pop('sigma')),
  'objects': _npz(lambda arrays, _: arrays.update(mu=np.array([{}], object))),
}


TARGETS: dict[str, Target] = {
  'pairs': Target(
    _paired,
    _captions,
    {'a.csv': KEEPS_PAIRS | damage.KEEPS_TEXT | damage.KEEPS_TABLE},
    {'a.csv': NO_PAIRS | damage.NO_TABLE},
    times=2,
  ),
  'images': Target(
    lambda root: images(root / 'images', 12),
    _pixels,
    {'images/*': KEEPS_PNG},
    {'images/*': damage.HURT},
    times=2,
  ),
  'reference': Target(
    _reference,
    _read_reference,
    {'r.npz': {'compression': _npz(lambda *_: None, np.savez_compressed)}},
    {'r.npz': NO_REFERENCE},
    times=2,
  ),
}
