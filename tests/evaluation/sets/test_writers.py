import json

import numpy as np
import PIL.Image
import pytest

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.sets.pictures import to_uint8
from softdimo_jax.evaluation.sets.writers import (
  ImageExport,
  NpzExport,
  PngExport,
)

COUNT = 7  # in ranges of 3: the last one is short
IMAGES = np.random.default_rng(0).random((COUNT, 4, 5, 3), np.float32)
OPTIONS = {
  'num_images': COUNT,
  'made_by': {'seed': 0},
  'images_per_range': 3,
}


def fill(export: ImageExport, images=IMAGES, ranges: int | None = None):
  for start, stop in list(export.missing())[:ranges]:
    export.write(start, images[start:stop])


def npz_array(path) -> np.ndarray:
  with np.load(path) as file:
    assert file.files == ['arr_0']
    return file['arr_0']


def test_npz_holds_the_quantised_images(tmp_path):
  export = NpzExport(tmp_path / 'samples.npz', **OPTIONS)
  assert list(export.missing()) == [(0, 3), (3, 6), (6, 7)]
  fill(export)
  export.finish()
  array = npz_array(tmp_path / 'samples.npz')
  assert array.dtype == np.uint8
  np.testing.assert_array_equal(array, to_uint8(IMAGES))


def test_npz_is_stored_as_numpy_stores_it(tmp_path):
  export = NpzExport(tmp_path / 'ours.npz', **OPTIONS)
  fill(export)
  export.finish()
  np.savez(tmp_path / 'numpy.npz', to_uint8(IMAGES))
  ours, numpys = (tmp_path / f'{name}.npz' for name in ('ours', 'numpy'))
  assert ours.stat().st_size == numpys.stat().st_size


def test_grey_images_become_rgb_in_npz(tmp_path):
  export = NpzExport(tmp_path / 'grey.npz', **OPTIONS)
  fill(export, IMAGES[..., :1])
  export.finish()
  expected = to_uint8(IMAGES[..., :1]).repeat(3, axis=-1)
  np.testing.assert_array_equal(npz_array(tmp_path / 'grey.npz'), expected)


def test_png_folder(tmp_path):
  export = PngExport(tmp_path / 'png', **OPTIONS)
  fill(export)
  export.finish()
  files = sorted((tmp_path / 'png').glob('*.png'))
  assert [file.name for file in files] == [f'{i:06d}.png' for i in range(COUNT)]
  pixels = np.stack([np.asarray(PIL.Image.open(file)) for file in files])
  np.testing.assert_array_equal(pixels, to_uint8(IMAGES))


@pytest.mark.parametrize('kind', [NpzExport, PngExport])
def test_a_resumed_export_makes_only_what_is_missing(tmp_path, kind):
  path = tmp_path / 'out.npz'
  fill(kind(path, **OPTIONS), ranges=2)
  resumed = kind(path, **OPTIONS)
  assert list(resumed.missing()) == [(6, 7)]
  with pytest.raises(RuntimeError, match='images 6 to 6 are not written'):
    resumed.finish()
  fill(resumed)
  resumed.finish()
  finished = kind(path, **OPTIONS)
  assert list(finished.missing()) == []
  finished.finish()


def test_interrupted_npz_equals_the_whole_one(tmp_path):
  whole, broken = tmp_path / 'whole.npz', tmp_path / 'broken.npz'
  export = NpzExport(whole, **OPTIONS)
  fill(export)
  export.finish()
  fill(NpzExport(broken, **OPTIONS), ranges=1)
  export = NpzExport(broken, **OPTIONS)
  fill(export)
  export.finish()
  assert whole.read_bytes() == broken.read_bytes()
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    'broken.npz',
    'broken.npz.json',
    'whole.npz',
    'whole.npz.json',
  ]


@pytest.mark.parametrize('kind', [NpzExport, PngExport])
def test_a_killed_write_leaves_nothing_that_counts(tmp_path, kind, monkeypatch):
  export = kind(tmp_path / 'out', **OPTIONS)

  def killed(*_, **__):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr('os.replace', killed)
    with pytest.raises(KeyboardInterrupt):
      export.write(0, IMAGES[:3])
  assert next(kind(tmp_path / 'out', **OPTIONS).missing()) == (0, 3)


@pytest.mark.parametrize('kind', [NpzExport, PngExport])
def test_images_of_two_models_do_not_mix(tmp_path, kind):
  fill(kind(tmp_path / 'out', **OPTIONS), ranges=1)
  with pytest.raises(UserError, match='is not this export'):
    kind(tmp_path / 'out', **OPTIONS | {'made_by': {'seed': 1}})


def test_files_of_others_are_not_touched(tmp_path):
  (tmp_path / 'old.npz').write_bytes(b'precious')
  with pytest.raises(UserError, match='is not this export'):
    NpzExport(tmp_path / 'old.npz', **OPTIONS)
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'folder' / '000000.png').write_bytes(b'precious')
  with pytest.raises(UserError, match='is not this export'):
    PngExport(tmp_path / 'folder', **OPTIONS)
  assert (tmp_path / 'old.npz').read_bytes() == b'precious'


@pytest.mark.parametrize(
  'images',
  [IMAGES[:2], IMAGES[:3, ..., :2], IMAGES[:3, 0], to_uint8(IMAGES[:3])],
  ids=['too few', 'two channels', 'three axes', 'not float'],
)
def test_unsuitable_images_are_refused(tmp_path, images):
  export = NpzExport(tmp_path / 'out.npz', **OPTIONS)
  with pytest.raises(ValueError, match=r'images'):
    export.write(0, images)


def test_sizes_must_agree(tmp_path):
  export = NpzExport(tmp_path / 'out.npz', **OPTIONS)
  fill(export, ranges=2)
  export.write(6, IMAGES[:1, :2])
  with pytest.raises(ValueError, match='differ in size'):
    export.finish()
  assert not (tmp_path / 'out.npz').exists()


def test_the_claim_says_what_the_images_are(tmp_path):
  NpzExport(tmp_path / 'out.npz', **OPTIONS)
  claim = json.loads((tmp_path / 'out.npz.json').read_text())
  assert claim['made_by'] == {'seed': 0} and claim['num_images'] == COUNT
