"""GenEval's command scores a folder of pictures."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from tests import released
from tests.commands import call, fails, succeeds

COLORED = {
  'tag': 'colors',
  'include': [{'class': 'cup', 'count': 1, 'color': 'red'}],
  'prompt': 'a photo of a red cup',
}
PLAIN = {
  'tag': 'single_object',
  'include': [{'class': 'bench', 'count': 1}],
  'prompt': 'a photo of a bench',
}
BOX = [1, 1, 7, 7, 0.95]


@pytest.fixture
def pictures(tmp_path):
  """Two pictures of each of two prompts."""
  root = tmp_path / 'pictures'
  for prompt, record in enumerate((PLAIN, COLORED)):
    samples = root / f'{prompt:05d}' / 'samples'
    samples.mkdir(parents=True)
    (samples.parent / 'metadata.jsonl').write_text(json.dumps(record))
    for number in range(2):
      pixels = np.full((8, 8, 3), 200 * number, np.uint8)
      Image.fromarray(pixels).save(samples / f'{number:05d}.png')
  return root


def detections(tmp_path, *found):
  """A file of what was found in the four pictures, in their order."""
  path = tmp_path / 'detections.jsonl'
  lines = (
    {
      'filename': f'{index // 2:05d}/samples/{index % 2:05d}.png',
      'detections': {name: [BOX] for name in names},
    }
    for index, names in enumerate(found)
  )
  path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
  return path


def test_pictures_are_scored(pictures, tmp_path):
  path = detections(tmp_path, ['bench'], [], ['bench'], ['cup', 'bench'])
  score = (f'--images={pictures}', f'--detections={path}')
  fails(call('geneval', *score), 'the colour of cup', '--clip')
  fails(call('geneval', *score, '--clip_vocabulary=rule'), '--clip')
  fails(call('geneval', *score, '--batch_size=8'), '--batch_size')
  clip = released.save(tmp_path / 'clip', 'clip')
  clip = (f'--clip={clip}', '--clip_vocabulary=rule')
  result = succeeds(call('geneval', *score, *clip))
  assert 'oracle, best of 2' in result.out
  saved = json.loads((pictures / 'geneval.json').read_text())
  digest = hashlib.sha256(path.read_bytes()).hexdigest()
  assert saved['protocol']['detections'] == {
    'path': str(path),
    'sha256': digest,
  }
  row, oracle = saved['rows']
  assert row['single_object'] == 0.5 and oracle['single_object'] == 1
  right = [picture['correct'] for picture in saved['pictures']]
  assert right[:3] == [True, False, False]  # the last is the colour's
  assert saved['pictures'][2]['reasons']


@pytest.mark.parametrize('text', ['', '[]', '{"num_images": 4}'])
def test_a_damaged_claim_is_named(text, pictures, tmp_path):
  path = detections(tmp_path, ['bench'], [], [], [])
  (pictures / '.export.json').write_text(text)
  score = (f'--images={pictures}', f'--detections={path}')
  fails(call('geneval', *score), '.export.json is damaged')


def test_a_record_that_counts_twice_is_refused(pictures, tmp_path):
  path = detections(tmp_path, ['bench'], [], [], [])
  (pictures / '00000' / 'metadata.jsonl').write_text(
    json.dumps(PLAIN).replace('"count": 1', '"count": 2, "count": 1')
  )
  score = (f'--images={pictures}', f'--detections={path}')
  fails(call('geneval', *score), "the key 'count' twice")
