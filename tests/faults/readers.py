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

from softdimo_jax.convert import command, folder
from softdimo_jax.convert.linear_head import OFFICIAL_LAYERS
from softdimo_jax.data.cache.prompts import PromptCache
from softdimo_jax.data.cache.tokens import TokenCache
from softdimo_jax.data.prompts import sources
from softdimo_jax.data.prompts.records import read_records
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
        # That of the first layer may have any input.
        lambda x: x.update({'layers.2.weight': np.zeros((4, 5), np.float32)})
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
