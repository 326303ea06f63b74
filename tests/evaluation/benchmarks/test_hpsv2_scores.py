"""Parts of the HPSv2 benchmark."""

import json

import numpy as np
import PIL.Image
import pytest

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.benchmarks import hpsv2_scores
from softdimo_jax.evaluation.sets.images import FolderImages
from softdimo_jax.evaluation.sets.writers import JpegExport


def test_a_style_is_the_mean_of_its_groups():
  scores = np.arange(200.0)
  mean, std = hpsv2_scores.summarise(scores)
  groups = [
    np.mean(scores[:80]),
    np.mean(scores[80:160]),
    np.mean(scores[160:]),
  ]
  assert mean == np.mean(groups) and std == np.std(groups)


def test_scores_are_cosines_in_per_cent():
  images, texts = np.array([[3.0, 0], [0, 2]]), np.array([[1.0, 1], [0, -5]])
  expected = [100 / 2**0.5, -100]
  np.testing.assert_allclose(hpsv2_scores.cosines(images, texts), expected)


def test_prompts_are_lists_of_every_style(tmp_path):
  for style in hpsv2_scores.STYLES:
    (tmp_path / f'{style}.json').write_text(json.dumps([style, 'b', 'c']))
  found = hpsv2_scores.style_prompts(str(tmp_path), hpsv2_scores.STYLES, 2)
  assert list(found) == list(hpsv2_scores.STYLES)
  assert found['photo'] == ['photo', 'b']
  (tmp_path / 'photo.json').write_text('["a", "", "b"]')
  with pytest.raises(UserError, match=r'photo\.json has 1 empty prompts'):
    hpsv2_scores.style_prompts(str(tmp_path), ['photo'])
  with pytest.raises(UserError, match=r'comic\.json is missing'):
    hpsv2_scores.style_prompts(str(tmp_path), ['comic'])


def test_files_are_named_by_their_prompts(tmp_path):
  export = JpegExport(tmp_path / 'a', num_images=3, made_by={})
  export.write(0, np.full((3, 8, 8, 1), 0.5, np.float32))
  export.finish()
  (tmp_path / 'a' / '00001.jpg').unlink()
  images = FolderImages(tmp_path / 'a')
  assert hpsv2_scores.numbered(images, 'a', 3) == [0, 2]
  with PIL.Image.open(tmp_path / 'a' / '00000.jpg') as image:
    assert image.mode == 'RGB' and image.format == 'JPEG'
    image.save(tmp_path / 'a' / '00000.png')
  with pytest.raises(UserError, match=r'00000.jpg and 00000.png are both'):
    hpsv2_scores.numbered(FolderImages(tmp_path / 'a'), 'a', 3)
  (tmp_path / 'a' / '00000.png').unlink()
  with pytest.raises(UserError, match=r'a\.json has no caption for 00002\.jpg'):
    hpsv2_scores.numbered(FolderImages(tmp_path / 'a'), 'a', 2)
