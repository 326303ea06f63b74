"""HPSv2's command scores folders of images by style."""

import json

import numpy as np
import pytest
from PIL import Image

from tests import released
from tests.commands import call, fails, succeeds

TEXTS = ['a red circle', 'a blue square', 'two blue squares']


def test_images_are_scored_by_style(tmp_path):
  rng = np.random.default_rng(0)
  prompts, images = tmp_path / 'prompts', tmp_path / 'images'
  prompts.mkdir()
  for style in ('anime', 'photo'):
    (prompts / f'{style}.json').write_text(json.dumps(TEXTS))
    (images / style).mkdir(parents=True)
    for number in range(len(TEXTS)):
      pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
      Image.fromarray(pixels).save(images / style / f'{number:05d}.jpg')
  arguments = (
    f'--images={images}',
    f'--weights={released.save(tmp_path / "hps", "clip")}',
    '--clip_vocabulary=rule',
    f'--benchmark={prompts}',
    '--styles=anime,photo',
  )
  assert 'photo' in succeeds(call('hpsv2', *arguments)).out
  saved = json.loads((images / 'hpsv2.json').read_text())
  assert saved['protocol']['prompts_sha256'].keys() == {'anime', 'photo'}
  (row,) = saved['rows']
  assert row['num_images'] == 6 and 'missing' not in row
  assert row['average'] == pytest.approx((row['anime'] + row['photo']) / 2)
  (images / 'photo' / '00001.jpg').unlink()
  succeeds(call('hpsv2', *arguments))
  (again,) = json.loads((images / 'hpsv2.json').read_text())['rows']
  assert again['missing'] == 1 and again['anime'] == row['anime']


@pytest.mark.parametrize('styles', ['', 'anime,anime', 'anime,'])
def test_styles_that_are_no_choice(tmp_path, styles):
  result = call(
    'hpsv2',
    *(f'--images={tmp_path}', f'--benchmark={tmp_path}', f'--styles={styles}'),
  )
  fails(result, '--styles', 'none twice', 'concept-art')
