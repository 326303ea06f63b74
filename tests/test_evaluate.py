"""The command that evaluates any images."""

import json

import numpy as np
from PIL import Image

from tests import released
from tests.commands import call, fails, succeeds


def test_captions_follow_their_images(tmp_path):
  rng = np.random.default_rng(0)
  images = tmp_path / 'images'
  images.mkdir()
  for number in range(12):
    pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(images / f'{number}.png')
  texts = [f'{number} circles' for number in range(12)]
  listed, table = tmp_path / 'a.txt', tmp_path / 'a.csv'
  listed.write_text('\n'.join(texts))
  rows = [f'{number},{texts[number]}' for number in reversed(range(12))]
  table.write_text('\n'.join(['image_id,caption', *rows]))
  weights = released.save(tmp_path / 'clip', 'clip')

  def evaluate(*arguments):
    return call(
      'evaluate',
      *(f'--images={images}', '--metrics=clip_score', f'--clip={weights}'),
      *('--clip_vocabulary=rule', f'--out={tmp_path / "out"}', *arguments),
    )

  def score(*arguments):
    out = succeeds(evaluate(*arguments)).out
    assert '12 prompts of' in out
    (row,) = json.loads((tmp_path / 'out' / 'results.json').read_text())['rows']
    return row['clip_score']

  assert score(f'--prompts={listed}') == score(f'--prompts={table}')
  few = score(f'--prompts={listed}', '--num=5')
  assert few == score(f'--prompts={table}', '--field=CAPTION', '--num=5')
  listed.write_text('\n'.join(texts[:5]))
  fails(evaluate(f'--prompts={listed}', '--num=5'), '12 images need 12 prompts')
