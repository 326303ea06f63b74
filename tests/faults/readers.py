"""Readers with inputs to damage: what each returns, and what may happen."""

import csv
import dataclasses
import hashlib
import io
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from PIL import Image

from softdimo_jax.convert import command, folder
from softdimo_jax.convert.linear_head import OFFICIAL_LAYERS
from softdimo_jax.data.cache.prompts import PromptCache
from softdimo_jax.data.cache.tokens import TokenCache
from softdimo_jax.data.images.folder import ImageFolder
from softdimo_jax.data.prompts import pairs, sources
from softdimo_jax.data.prompts.records import read_records
from softdimo_jax.evaluation.sets import reference_file
from softdimo_jax.evaluation.sets.images import open_images
from tests import released
from tests.convert import torch_format
from tests.data.cache import test_prompts, test_tokens
from tests.faults import damage
from tests.faults.damage import Change


@dataclasses.dataclass(frozen=True)
class Target:
  """Something that reads files.

  Attributes:
    make: writes the files into an empty folder.
    answer: reads them; anything that compares by `same`.
    harmless: by pattern of files, changes that keep the answer.
    harmful: likewise, changes that must be refused, or keep the answer.
    times: share of the cases.
  """

  make: Callable[[pathlib.Path], None]
  answer: Callable[[pathlib.Path], Any]
  harmless: Mapping[str, Mapping[str, Change]]
  harmful: Mapping[str, Mapping[str, Change]]
  times: int = 1


def digest(value: Any) -> str:
  """Of arrays in any tree, and of whatever else `repr` shows."""
  leaves = jax.tree_util.tree_leaves_with_path(value)
  found = hashlib.sha256()
  for path, leaf in leaves:
    found.update(jax.tree_util.keystr(path).encode())
    array = np.asarray(leaf)
    shown = array.tobytes() if array.dtype != object else repr(leaf).encode()
    found.update(f'{array.dtype} {array.shape}'.encode() + shown)
  return found.hexdigest()


TEXTS = [
  'a red circle',
  'two blue squares, large',
  'größe "seven"',
  'a dog; a cat',
]
RECORDS = [
  {
    'tag': 'colors',
    'include': [{'class': 'cup', 'count': 1, 'color': 'red'}],
    'prompt': 'a photo of a red cup',
  },
  {
    'tag': 'position',
    'include': [
      {'class': 'bench', 'count': 1},
      {'class': 'cup', 'count': 2, 'position': ['left of', 0]},
    ],
    'prompt': 'a photo of two cups left of a bench',
  },
]


def _prompts(suffix: str) -> Target:
  """A file of prompts."""

  def make(root: pathlib.Path) -> None:
    rows = [{'caption': text, 'n': str(i)} for i, text in enumerate(TEXTS)]
    path = root / f'prompts{suffix}'
    if suffix == '.txt':
      path.write_text(''.join(f'{x}\n' for x in TEXTS), 'utf-8')
    elif suffix == '.jsonl':
      path.write_text(''.join(json.dumps(x) + '\n' for x in rows))
    elif suffix == '.json':
      path.write_text(json.dumps(rows))
    else:
      text = io.StringIO()
      delimiter = {'.csv': ',', '.tsv': '\t'}[suffix]
      writer = csv.DictWriter(
        text, rows[0], delimiter=delimiter, lineterminator='\n'
      )
      writer.writeheader()
      writer.writerows(rows)
      path.write_text(text.getvalue(), 'utf-8')

  no_texts = damage.at('*', 'caption', values=[3, 1.5, True, {'a': 1}, ...])
  of_json = {
    'no text': no_texts,
    'a key twice': damage.twice('caption'),
    'a surrogate': damage.at('*', 'caption', values=['a \ud800 cat']),
  }
  keeps, breaks = {
    '.txt': (damage.KEEPS_TEXT, damage.NO_TEXT),
    '.csv': (damage.KEEPS_TEXT | damage.KEEPS_TABLE, damage.NO_TABLE),
    '.tsv': (damage.KEEPS_TEXT | damage.KEEPS_TABLE, damage.NO_TABLE),
    '.json': (damage.KEEPS_TEXT | damage.KEEPS_JSON, damage.NO_JSON | of_json),
    '.jsonl': (damage.KEEPS_TEXT | damage.KEEPS_JSON, damage.NO_JSON | of_json),
  }[suffix]
  answer = lambda root: sources.read_file(root / f'prompts{suffix}').texts
  return Target(make, answer, {'prompts*': keeps}, {'prompts*': breaks})


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


def _class_pixels(root: pathlib.Path) -> str:
  source = ImageFolder(root)
  return digest([source.read(index) for index in range(len(source))])


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


def _weights(name: str) -> Target:
  """A checkpoint to convert."""
  state = {
    f'layers.{OFFICIAL_LAYERS[place]}.{part}': np.full(
      shape, place + 1, np.float32
    )
    for place, sizes in enumerate(((4, 8), (4, 4), (4, 4), (4, 4), (1, 4)))
    for part, shape in (('weight', sizes), ('bias', sizes[:1]))
  }

  def make(root: pathlib.Path) -> None:
    path = root / name
    if path.suffix == '.safetensors':
      safetensors.numpy.save_file(state, path)
    else:
      torch_format.save(path, state)

  def answer(root: pathlib.Path) -> str:
    out = root / 'out'
    command.run(command.Conversion('aesthetic_head', str(root / name), out=out))
    return digest(folder.load_converted(out)[1])

  breaks = damage.BROKEN
  if name.endswith('.safetensors'):
    # Its numbers have no checksum; only the header tells damage.
    header = lambda data, rng: damage.flipped(data[:200], rng) + data[200:]
    breaks = breaks | {
      'a flipped bit': damage.bytes_change(header),
      'a hole': damage.bytes_change(
        lambda data, _: data[:8] + b'\0' * 64 + data[72:]
      ),
      'one more': _tensors(lambda x: x.update(extra=np.zeros(3))),
      'one less': _tensors(lambda x: x.pop('layers.2.bias')),
      'another shape': _tensors(
        lambda x: x.update({'layers.0.weight': np.zeros((4, 9), np.float32)})
      ),
      'whole numbers': _tensors(
        lambda x: x.update({'layers.0.weight': np.zeros((4, 8), np.int64)})
      ),
    }
  return Target(make, answer, {}, {name: breaks})


def _tensors(change: Callable[[dict], Any]) -> Change:
  def apply(path, rng):
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    safetensors.numpy.save_file(tensors, path)

  return apply


def _cached(cache: Any) -> str:
  found = cache.gather(np.arange(len(cache)))
  return digest(
    dataclasses.asdict(found) if dataclasses.is_dataclass(found) else found
  )


NO_RECORDS = damage.NO_JSON | {
  'a key twice': damage.twice('class'),
  'no count': damage.at(
    '*', 'include', '*', 'count', values=[..., 0, -1, 1.5, '2', True, None]
  ),
  'no class': damage.at(
    '*', 'include', '*', 'class', values=[..., 3, None, []]
  ),
  'no prompt': damage.at('*', 'prompt', values=[..., 3, None, ['x']]),
  'no tag': damage.at('*', 'tag', values=[..., 3, None]),
  'no position': damage.at(
    *('*', 'include', 1, 'position'),
    values=[
      ['left of', 1],
      ['left of', -1],
      ['left of', 0.0],
      ['left of', True],
      3,
    ],
  ),
}

TARGETS: dict[str, Target] = {
  **{
    f'prompts{x}': _prompts(x)
    for x in ('.txt', '.csv', '.tsv', '.json', '.jsonl')
  },
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
  'records': Target(
    lambda root: (root / 'r.jsonl').write_text(
      ''.join(json.dumps(x) + '\n' for x in RECORDS)
    ),
    lambda root: read_records(root / 'r.jsonl'),
    {'r.jsonl': damage.KEEPS_TEXT | damage.KEEPS_JSON},
    {'r.jsonl': NO_RECORDS},
  ),
  'safetensors': _weights('w.safetensors'),
  'torch': _weights('w.pth'),
  'converted': Target(
    lambda root: released.save(root / 'head', 'aesthetic_head'),
    lambda root: digest(folder.load_converted(root / 'head')[1]),
    {},
    {
      'head/params/**/*': damage.BROKEN,
      'head/model.json': damage.NO_JSON
      | {
        'no family': damage.at(0, 'family', values=[..., 'none', 3, None, []]),
        'no options': damage.at(0, 'options', values=[..., 3, None, [], {}]),
        'no widths': damage.at(
          0, 'options', 'widths', values=[..., 'x', None, -1, [0], [1.5]]
        ),
        'an option': damage.at(
          0, 'options', 'widths', '*', values=damage.NO_NUMBERS
        ),
      },
    },
  ),
  'tokens': Target(
    lambda root: test_tokens.write(root),
    lambda root: _cached(TokenCache(root)),
    {},
    {'*': damage.BROKEN},
  ),
  'features': Target(
    lambda root: test_prompts.write(root),
    lambda root: _cached(PromptCache(root)),
    {},
    {'*': damage.BROKEN},
  ),
}
