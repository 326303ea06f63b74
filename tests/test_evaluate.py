"""The command that evaluates any images."""

import json

import numpy as np
import pytest
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
    found = row['protocol']['captions']
    assert found['num_prompts'] == 12 and len(found['sha256']) == 64
    return row['clip_score'], found['paired_by'], found['field']

  value, *how = score(f'--prompts={listed}')
  assert how == ['order', None]
  assert score(f'--prompts={table}') == (value, 'names of the images', None)
  value, *_ = score(f'--prompts={listed}', '--num=5')
  again = score(f'--prompts={table}', '--field=CAPTION', '--num=5')
  assert again == (value, 'names of the images', 'CAPTION')
  listed.write_text('\n'.join(texts[:5]))
  fails(evaluate(f'--prompts={listed}', '--num=5'), '12 images need 12 prompts')


@pytest.mark.parametrize(
  ('metrics', 'unread', 'reader'),
  [
    ('is', 'reference', 'fid or sfid or kid'),
    ('clip_score', 'inception', 'fid or sfid or is'),
    ('is', 'clip', 'clip_score'),
    ('is', 'kid_subset_size', 'kid'),
    ('is', 'field', 'clip_score'),
    ('is', 'prompts', 'clip_score'),
  ],
)
def test_flags_that_no_metric_reads(tmp_path, metrics, unread, reader):
  given = dict.fromkeys(('inception', 'clip'), 'rule')
  given |= {'prompts': 'few.txt'} if metrics == 'clip_score' else {}
  read = {'is': ('inception',), 'clip_score': ('clip', 'prompts')}[metrics]
  arguments = [f'--{name}={given[name]}' for name in read]
  value = '5' if unread == 'kid_subset_size' else 'rule'
  result = call(
    'evaluate',
    *(f'--images={tmp_path}', f'--metrics={metrics}', f'--{unread}={value}'),
    *arguments,
  )
  fails(result, f'--{unread} does not apply here', f'--metrics={reader}')
