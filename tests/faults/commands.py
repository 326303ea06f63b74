"""Commands with inputs to damage; `readers` has what they read."""

import json
import pathlib
import shutil
from typing import Any

from softdimo_jax.errors import UserError
from tests import commands, released
from tests.experiment import official_text
from tests.faults import damage, pictures
from tests.faults.readers import RECORDS, TEXTS, Target


def run(command: str, *arguments: str) -> str:
  """Output of a command that succeeds.

  Raises:
    UserError: the sentence of one that refuses.
    AssertionError: if it does anything else.
  """
  result = commands.call(command, *arguments)
  if result.code == 0:
    return result.out
  commands.fails(result)
  (sentence,) = [x for x in result.err.splitlines() if x.startswith('error: ')]
  assert 'defect' not in sentence, sentence
  raise UserError(sentence)


def _rows(path: pathlib.Path) -> Any:
  """Rows of results without wall times."""
  rows = json.loads(path.read_text())['rows']
  return [
    {k: v for k, v in row.items() if 'per_second' not in k and k != 'protocol'}
    for row in rows
  ]


# A score of captions and images.


def _make_scored(root: pathlib.Path) -> None:
  pictures.TARGETS['pairs'].make(root)
  released.save(root / 'clip', 'clip')


def _score(root: pathlib.Path) -> Any:
  run(
    *('evaluate', f'--images={root / "images"}', f'--clip={root / "clip"}'),
    *('--metrics=clip_score', '--clip_vocabulary=rule'),
    *(f'--prompts={root / "a.csv"}', f'--out={root / "out"}'),
  )
  rows = _rows(root / 'out' / 'results.json')
  return [row | {'model': None} for row in rows]


# GenEval's rules.


def _make_geneval(root: pathlib.Path) -> None:
  lines = []
  for prompt, record in enumerate(RECORDS):
    folder = root / 'pictures' / f'{prompt:05d}'
    pictures.images(folder / 'samples', 2)
    (folder / 'metadata.jsonl').write_text(json.dumps(record))
    for number in range(2):
      boxes = {
        'cup': [[1, 1, 3, 3, 0.95], [1, 4, 3, 7, 0.99]][: prompt + 1],
        'bench': [[5, 1, 8, 8, 0.9 + 0.05 * number]],
      }
      lines.append(
        {
          'filename': f'{prompt:05d}/samples/{number}.png',
          'detections': boxes,
          'colors': {name: ['red'] * len(x) for name, x in boxes.items()},
          'masks': {'bench': [{'size': [2, 3], 'counts': [1, 2, 3]}]},
        }
      )
  (root / 'd.jsonl').write_text(''.join(json.dumps(x) + '\n' for x in lines))


def _geneval(root: pathlib.Path) -> Any:
  pictures = root / 'pictures'
  run('geneval', f'--images={pictures}', f'--detections={root / "d.jsonl"}')
  found = json.loads((pictures / 'geneval.json').read_text())
  rows = [row | {'pictures': None} for row in found['rows']]
  return rows, found['pictures']


def _any_box(*rest: int | str, values: list) -> damage.Change:
  return damage.at('*', 'detections', '*', *rest, values=values)


NO_DETECTIONS = damage.NO_JSON | {
  'a key twice': damage.twice('cup'),
  'no number': _any_box('*', '*', values=damage.NO_NUMBERS),
  'a width': _any_box('*', 2, values=[0, -1]),
  'a score': _any_box('*', 4, values=[1.5, -0.1, 95]),
  'a short box': _any_box('*', values=[[1, 1, 3, 3], [], None, 'x']),
  'no list': _any_box(values=[3, None, 'x', {}]),
  'no colour': damage.at(
    *('*', 'colors', '*'), values=[[], ['red'] * 5, 'red', None, [3]]
  ),
  'no mask': damage.at(
    *('*', 'masks', 'bench', 0, 'counts'),
    values=[[1, 2], [-1, 7], [], 'abc', None, [1.5, 4.5], [True, 5], ['6']],
  ),
  'no size': damage.at(
    *('*', 'masks', 'bench', 0, 'size'), values=[[6], [2, 3, 1], [-2, -3], None]
  ),
  'another file': damage.at('*', 'filename', values=['x', 3, None, ...]),
  'no detections': damage.at('*', 'detections', values=[..., None, [], 3]),
  'a record less': damage.json_change(lambda x, rng: x.pop(rng.randrange(4))),
  'a record twice': damage.json_change(lambda x, rng: x.append(rng.choice(x))),
}
KEEPS_DETECTIONS = {
  **(damage.KEEPS_TEXT | damage.KEEPS_JSON),
  'order': damage.json_change(lambda x, rng: rng.shuffle(x)),
  'a list': lambda path, _: (
    path.write_text(
      json.dumps([json.loads(x) for x in path.read_text().splitlines()])
    )
    and None
  ),
}

# HPSv2's folders of images.


def _make_styles(root: pathlib.Path) -> None:
  for style in ('anime', 'photo'):
    pictures.images(root / 'images' / style, len(TEXTS))
    (root / f'{style}.json').write_text(json.dumps(TEXTS))
  released.save(root / 'clip', 'clip')


def _styles(root: pathlib.Path) -> Any:
  run(
    *('hpsv2', f'--images={root / "images"}', f'--weights={root / "clip"}'),
    *('--clip_vocabulary=rule', f'--benchmark={root}', '--styles=anime,photo'),
  )
  (row,) = _rows(root / 'images' / 'hpsv2.json')
  return row | {'model': None}


# Two seeds of a run.


def _make_runs(root: pathlib.Path) -> None:
  for seed in range(2):
    rows = [
      {
        **{'model': name, 'steps': 1, 'guidance_scale': 1.0},
        **{'fid': 5.0 + seed + place, 'precision': 0.5},
      }
      for place, name in enumerate(('dimo', 'softdimo'))
    ]
    config = {'seed': seed, 'name': 'x', 'dimo': {'steps': 5}}
    (root / f'{seed}').mkdir()
    (root / f'{seed}' / 'results.json').write_text(
      json.dumps({'config': config, 'rows': rows})
    )


def _summary(root: pathlib.Path) -> Any:
  return run('summarize', str(root / '0'), str(root / '1'))


NO_RESULTS = damage.NO_JSON | {
  'a key twice': damage.twice('fid'),
  'no number': damage.at(
    0, 'rows', '*', 'fid', values=[*damage.NO_NUMBERS[:3], 'x', [1], {}, True]
  ),
  'no model': damage.at(0, 'rows', '*', 'model', values=[..., 'x', [], {}, 3]),
  'no steps': damage.at(0, 'rows', '*', 'steps', values=[..., [1], {}, 2, 'x']),
  'a row less': damage.json_change(lambda x, _: x[0]['rows'].pop()),
  'a row twice': damage.json_change(
    lambda x, _: x[0]['rows'].append(x[0]['rows'][0])
  ),
  'no rows': damage.at(0, 'rows', values=[..., None, 3, {}, 'x', [3], [None]]),
  'the same seed': damage.at(0, 'config', 'seed', values=[..., None, 'x']),
  'no config': damage.at(0, 'config', values=[..., None, 3, [], 'x']),
  'another config': damage.at(
    0, 'config', 'dimo', values=[..., {'steps': 6}, 3]
  ),
}

# A fixture of the official code.


def _make_fixture(root: pathlib.Path) -> None:
  for suffix in ('json', 'npz'):
    file = commands.ROOT / 'tests' / 'golden' / f'bert_tokenizer.{suffix}'
    shutil.copy(file, root)


def _parity(root: pathlib.Path) -> str:
  result = commands.call('parity', str(root))
  assert 'Traceback' not in result.err
  if result.code:  # Whatever does not agree is said, and nothing passes.
    assert result.err.startswith(('failed: ', 'error: ')), result.err
    raise UserError(result.err)
  return result.out


# Prompts to encode.


def _make_tower(root: pathlib.Path) -> None:
  official_text.save('maskgen', root)
  for family in ('clip', 'image_reward'):
    released.save(root / family, family)
  official_text.small_config('maskgen', root)
  (root / 'prompts.jsonl').write_text(
    ''.join(json.dumps({'caption': x}) + '\n' for x in TEXTS)
  )


def _encoded(root: pathlib.Path) -> Any:
  run(
    *('encode_prompts', f'--config={root / "small.py"}', '--batch_size=2'),
    *(f'--prompts={root / "prompts.jsonl"}', f'--out={root / "out"}'),
    f'--config.pretrained.text={root / "text"}',  # of this copy
  )
  files = sorted((root / 'out').glob('prompts-*'))
  return [file.read_bytes() for file in files]


TARGETS: dict[str, Target] = {
  'evaluate': Target(
    _make_scored,
    _score,
    {'a.csv': pictures.KEEPS_PAIRS, 'images/*': pictures.KEEPS_PNG},
    {
      'a.csv': pictures.NO_PAIRS,
      'images/*': damage.HURT,
      'clip/params/**/*': damage.BROKEN,
      'clip/model.json': {
        'heads': damage.at(0, 'options', 'text', 'num_heads', values=[1, 4]),
      },
    },
  ),
  'geneval': Target(
    _make_geneval,
    _geneval,
    {
      'd.jsonl': KEEPS_DETECTIONS,
      'pictures/*/metadata.jsonl': damage.KEEPS_TEXT | damage.KEEPS_JSON,
    },
    {
      'd.jsonl': NO_DETECTIONS,
      'pictures/*/metadata.jsonl': damage.NO_JSON
      | {'a class twice': damage.twice('class')},
      'pictures/*/samples/*': {
        'no picture': damage.NO_TEXT['no file'],
        'another name': lambda path, _: (
          path.rename(path.with_name('7.png')) and None
        ),
        'one more': lambda path, _: (
          shutil.copy(path, path.with_name('9.png')) and None
        ),
      },
    },
  ),
  'hpsv2': Target(
    _make_styles,
    _styles,
    {
      '*.json': damage.KEEPS_TEXT | damage.KEEPS_JSON,
      'images/*/*': pictures.KEEPS_PNG,
    },
    {
      '*.json': damage.NO_JSON
      | {
        'a prompt less': damage.json_change(lambda x, _: x.pop()),
        'no prompt': damage.at('*', values=['', ' ', 3, {}, True, ['a', 'b']]),
      },
      'images/*/*': damage.HURT
      | {
        'a number': lambda path, _: (
          path.rename(path.with_name('77.png')) and None
        ),
        'a number twice': lambda path, _: (
          shutil.copy(path, path.with_name('00001.jpg')) and None
        ),
      },
    },
  ),
  'summarize': Target(
    _make_runs,
    _summary,
    {'*/results.json': damage.KEEPS_JSON},
    {'*/results.json': NO_RESULTS},
  ),
  'parity': Target(
    _make_fixture,
    _parity,
    {},
    {'*.npz': damage.BROKEN, '*.json': damage.NO_JSON},
  ),
  'encode_prompts': Target(
    _make_tower,
    _encoded,
    {'prompts.jsonl': damage.KEEPS_TEXT | damage.KEEPS_JSON},
    {
      'prompts.jsonl': damage.NO_JSON,
      'text/params/**/*': damage.BROKEN,
      'text/model.json': {
        'heads': damage.at(0, 'options', 'num_heads', values=[1, 2])
      },
      'small.py': {
        'no Python': damage.bytes_change(lambda data, _: data + b'\n)('),
        'no function': damage.bytes_change(
          lambda data, _: data.replace(b'get_config', b'config')
        ),
        'an exception': damage.bytes_change(
          lambda data, _: data + b'\n1 / 0\n'
        ),
        'nothing': damage.NO_TEXT['nothing'],
        'Latin-1': damage.bytes_change(lambda data, _: data + b'\n# gr\xfcn\n'),
      },
    },
  ),
}
