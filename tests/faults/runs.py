"""Commands that read a run, with runs to damage."""

import atexit
import functools
import json
import pathlib
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from softdimo_jax.errors import UserError
from tests import commands
from tests.faults import damage, pictures, readers
from tests.faults.commands import run
from tests.faults.damage import Change
from tests.faults.readers import Target


@functools.cache
def _trained(name: str) -> pathlib.Path:
  """Workdir of a finished run, which nobody changes."""
  folder = pathlib.Path(tempfile.mkdtemp())
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  commands.succeeds(
    commands.call(
      *('main', f'--config=configs/{name}.py:tiny'),
      f'--workdir={folder / "run"}',
    )
  )
  return folder / 'run'


def _copy(name: str, root: pathlib.Path) -> str:
  shutil.copytree(_trained(name), root / 'run')
  return str(root / 'run')


def _sample(root: pathlib.Path) -> bytes:
  out = root / 'out.png'
  run('sample', f'--workdir={root / "run"}', '--num=4', f'--out={out}')
  return out.read_bytes()


def _export(root: pathlib.Path) -> str:
  out = root / 'out.npz'
  run('export', f'--workdir={root / "run"}', '--num=4', f'--out={out}')
  with np.load(out) as arrays:
    return readers.digest(dict(arrays))


def _make_prompted(root: pathlib.Path) -> None:
  _copy('shapes', root)
  lines = [json.dumps({'prompt': x}) for x in ('a red circle', 'a blue square')]
  (root / 'prompts.jsonl').write_text('\n'.join(lines) + '\n')


def _search(root: pathlib.Path) -> Any:
  run(
    *('tteo', f'--workdir={root / "run"}', f'--out={root / "out"}'),
    *(f'--prompts={root / "prompts.jsonl"}', '--starts=2', '--steps=1'),
  )
  return json.loads((root / 'out' / 'scores.json').read_text())


def _repeat(root: pathlib.Path) -> Any:
  """The same command again."""
  run('main', '--config=configs/digits.py:tiny', f'--workdir={root / "run"}')
  rows = json.loads((root / 'run' / 'results.json').read_text())['rows']
  return [{k: v for k, v in x.items() if 'per_second' not in k} for x in rows]


def _make_classes(root: pathlib.Path) -> None:
  _copy('digits', root)
  for name in 'ab':
    pictures.images(root / 'data' / name, 3)


def _tokenize(root: pathlib.Path) -> Any:
  out = run(
    *('tokenize_dataset', f'--data={root / "data"}', '--size=8'),
    *(f'--workdir={root / "run"}', f'--out={root / "out"}', '--batch_size=2'),
  )
  if 'were left out' in out:
    raise UserError(out)
  files = sorted(x for x in (root / 'out').iterdir() if x.suffix != '.json')
  return [x.read_bytes() for x in files if x.is_file()]


NO_CONFIG = damage.NO_JSON | {
  'a key twice': damage.twice('kind'),
  'no section': damage.at(0, '*', values=[..., None, 3, 'x', []]),
  'no field': damage.at(0, '*', '*', values=[...]),
  'no number': damage.at(
    0, 'sampling', 'temperature', values=[float('nan'), 'hot', [1], {}]
  ),
  'another network': damage.at(
    0, 'model', 'generator', '*', values=[7, None, 'x']
  ),
  'another stage': damage.at(0, 'stages', values=[None, 'x', ['x'], [], 3]),
}
_PARAMS = {
  'run/softdimo/params/**/*': damage.BROKEN,
  'run/tokenizer/params/**/*': damage.BROKEN,
}


def _some(changes: Mapping[str, Change], *names: str) -> dict[str, Change]:
  return {name: changes[name] for name in names}


TARGETS: dict[str, Target] = {
  'sample': Target(
    lambda root: _copy('digits', root),
    _sample,
    {},
    {
      'run/config.json': NO_CONFIG,
      'run/softdimo/stage.json': damage.NO_JSON,
      **_PARAMS,
    },
  ),
  'export': Target(
    lambda root: _copy('digits', root),
    _export,
    {},
    {'run/config.json': _some(NO_CONFIG, 'no section', 'no number'), **_PARAMS},
  ),
  'tteo': Target(
    _make_prompted,
    _search,
    {'prompts.jsonl': _some(damage.KEEPS_TEXT, 'a byte order mark', 'CR')},
    {'prompts.jsonl': _some(damage.NO_JSON, 'a cut', 'Latin-1'), **_PARAMS},
  ),
  'tokenize_dataset': Target(
    _make_classes,
    _tokenize,
    {'data/*/*': pictures.KEEPS_PNG},
    {'data/*/*': damage.HURT, 'run/tokenizer/params/**/*': damage.BROKEN},
  ),
  # It mends what it can, so that each case may train a stage.
  'main': Target(
    lambda root: _copy('digits', root),
    _repeat,
    {},
    {
      'run/*/params/**/*': _some(damage.HURT, 'a flipped bit', 'a truncation'),
      'run/results.json': damage.HURT,
      'run/config.json': _some(damage.HURT, 'nothing', 'a truncation'),
      'run/*/stage.json': _some(damage.HURT, 'nothing', 'a truncation'),
    },
  ),
}
