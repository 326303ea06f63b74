"""Detections as JSON: read, checked, and judged in GenEval's folders."""

import json

import numpy as np
import PIL.Image
import pytest

from softdimo_jax.errors import UserError
from softdimo_jax.evaluation.benchmarks import geneval_folder
from softdimo_jax.evaluation.benchmarks.detections import read_detections
from softdimo_jax.evaluation.benchmarks.geneval_folder import GenEvalExport

BOX = [0, 0, 4, 4, 0.95]
RECORDS = [
  {
    'tag': 'single_object',
    'include': [{'class': 'bench', 'count': 1}],
    'prompt': 'a photo of a bench',
  },
  {
    'tag': 'colors',
    'include': [{'class': 'cup', 'count': 1, 'color': 'red'}],
    'prompt': 'a photo of a red cup',
  },
]


def write(path, *records):
  path.write_text(''.join(json.dumps(record) + '\n' for record in records))
  return path


def record(index, number, **more):
  name = f'{index:05d}/samples/{number:05d}.png'
  return {'filename': name, 'detections': {}, **more}


def boxed(*boxes, **more):
  return json.dumps({'filename': 'a', 'detections': {'b': boxes}, **more})


@pytest.fixture
def folder(tmp_path):
  """Two pictures of each of two prompts; the first of each is red."""
  images = np.zeros((4, 8, 8, 3), np.float32)
  images[[0, 2], ..., 0] = 1
  export = GenEvalExport(
    tmp_path / 'pictures',
    records=RECORDS,
    per_prompt=2,
    made_by={'seed': 0},
    images_per_range=3,
  )
  for start, stop in export.missing():
    export.write(start, images[start:stop])
  export.finish()
  return tmp_path / 'pictures'


DETECTED = [
  record(0, 0, detections={'bench': [BOX]}),
  record(0, 1, detections={'bench': [[0, 0, 4, 4, 0.3]]}),
  record(1, 0, detections={'cup': [BOX]}, colors={'cup': ['red']}),
  record(1, 1, detections={'cup': [BOX]}, colors={'cup': ['blue']}),
]


def test_the_folder_is_genevals(folder):
  assert json.loads((folder / '00001/metadata.jsonl').read_text()) == RECORDS[1]
  with PIL.Image.open(folder / '00001/samples/00001.png') as image:
    assert image.size == (8, 8)
  metadata = folder / '00000' / 'metadata.jsonl'
  metadata.write_text('\ufeff' + metadata.read_text())
  samples = geneval_folder.read_samples(folder)
  assert [sample.prompt for sample in samples] == ['00000'] * 2 + ['00001'] * 2
  assert samples[3].name == '00001/samples/00001.png'


def test_pictures_that_the_detections_would_not_count_are_named(folder, caplog):
  picture = folder / '00000' / 'samples' / '00000.png'
  picture.with_suffix('.jpg').write_bytes(picture.read_bytes())
  with pytest.raises(UserError, match='two pictures with the number 0'):
    geneval_folder.read_samples(folder)
  picture.unlink()
  geneval_folder.read_samples(folder)
  (picture.parent / '00001.png').unlink()
  picture.with_suffix('.jpg').rename(picture.with_name('7.jpg'))
  (picture.parent / 'notes.txt').write_text('')
  (folder / '00001').rename(folder / '00003')
  geneval_folder.read_samples(folder)
  assert 'prompts are missing: 2 (1, 2)' in caplog.text
  assert 'pictures are missing: 7 (0, 1, 2, ...)' in caplog.text
  assert 'left out: 1 (notes.txt)' in caplog.text
  picture.with_name('7.jpg').rename(picture.with_name('best.jpg'))
  with pytest.raises(UserError, match=r'best\.jpg is not named after the num'):
    geneval_folder.read_samples(folder)


def test_pictures_are_judged(folder, tmp_path):
  pictures = read_detections(write(tmp_path / 'd.jsonl', *DETECTED))
  samples = geneval_folder.read_samples(folder)
  verdicts = geneval_folder.judge(folder, samples, pictures, None)
  assert [verdict.correct for verdict in verdicts] == [True, False] * 2
  tags, right, most = geneval_folder.oracle(samples, verdicts)
  assert (tags, right, most) == (['single_object', 'colors'], [True, True], 2)
  listed = tmp_path / 'list.json'
  listed.write_text('\ufeff' + json.dumps(DETECTED))
  assert read_detections(listed).keys() == pictures.keys()


def test_colours_without_a_name_are_classified(folder, tmp_path):
  mask = {'size': [8, 8], 'counts': [0, 32, 32]}
  bare = [{**r, 'colors': {}} for r in DETECTED]
  bare[2] |= {'masks': {'cup': [mask]}}
  pictures = read_detections(write(tmp_path / 'd.jsonl', *bare))
  samples = geneval_folder.read_samples(folder)
  with pytest.raises(UserError, match=r'the colour of cup .*give --clip'):
    geneval_folder.judge(folder, samples, pictures, None)
  seen = []

  def classify(name, crops):
    assert name == 'cup'
    seen.extend(crops)
    return ['red' if crop[0, 0, 0] == 255 else 'black' for crop in crops]

  verdicts = geneval_folder.judge(folder, samples, pictures, classify)
  assert [verdict.correct for verdict in verdicts] == [True, False] * 2
  assert [crop.shape for crop in seen] == [(4, 4, 3)] * 2
  wrong = {'size': [4, 4], 'counts': [16]}
  bare[2] |= {'masks': {'cup': [wrong]}}
  pictures = read_detections(write(tmp_path / 'd.jsonl', *bare))
  with pytest.raises(UserError, match=r'cup .*is 4x4, but the picture is 8x8'):
    geneval_folder.judge(folder, samples, pictures, classify)


def test_masks_are_run_lengths_along_columns(tmp_path):
  # pycocotools' encoding of a mask whose second column is set, as its string.
  counts = [2, 2, 2]
  text = ''.join(chr(48 + count) for count in counts)
  found = []
  for value in (counts, text):
    detected = record(
      0,
      0,
      detections={'a': [BOX]},
      masks={'a': [{'size': [2, 3], 'counts': value}]},
    )
    path = write(tmp_path / 'd.jsonl', detected)
    found.append(next(iter(read_detections(path).values())).masks['a'][0])
  expected = [[False, True, False]] * 2
  np.testing.assert_array_equal(found[0], expected)
  np.testing.assert_array_equal(found[1], expected)


@pytest.mark.parametrize('counts', [[3, 40, 17, 5, 235], [0, 300], [300]])
def test_compressed_run_lengths_are_differences(tmp_path, counts):
  detected = record(
    0,
    0,
    detections={'a': [BOX]},
    masks={'a': [{'size': [10, 30], 'counts': compressed(counts)}]},
  )
  path = write(tmp_path / 'd.jsonl', detected)
  mask = next(iter(read_detections(path).values())).masks['a'][0]
  flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
  np.testing.assert_array_equal(mask, flat.reshape(30, 10).T)


def compressed(counts):
  """COCO's string, as its C code writes it."""
  text = ''
  for place, count in enumerate(counts):
    x = count - counts[place - 2] if place > 2 else count
    more = True
    while more:
      bits, x = x & 0x1F, x >> 5
      more = x != -1 if bits & 0x10 else x != 0
      text += chr((bits | 0x20 if more else bits) + 48)
  return text


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('{', 'neither a JSON list'),
    ('{"detections": {}}', "record 1 of .* lacks 'filename'"),
    ('{"filename": "a"}', "lacks 'detections'"),
    ('{"filename": "a", "detections": {"b": [[1, 2]]}}', 'lists of five'),
    ('{"filename": "a", "detections": {"b": ["x"]}}', 'not a picture with'),
    ('{"filename": "a", "detections": []}', 'not a picture with'),
    ('[1]', 'record 1 of'),
    (
      '{"filename": "a", "detections": {"b": []}, "colors": {"b": ["red"]}}',
      '1 colors for 0 boxes of b',
    ),
    ('{"filename": "a", "detections": {}}\n' * 2, 'two records for a'),
    ('', 'contains no detections'),
    ('{"filename": ["a"], "detections": {}}', 'its filename is'),
    (
      '{"filename": "a", "detections": {"b": [], "b": []}}',
      "has the key 'b' twice",
    ),
    # Widths and heights, percents, and the score in the first place.
    (boxed([9, 9, 4, 4, 0.9]), 'must be corners'),
    (boxed([0, 0, 4, 4, 90]), 'a score from 0 to 1'),
    (boxed([0.9, 0, 4, 4, 8]), 'a score from 0 to 1'),
    (boxed(BOX, BOX, BOX, colors={'b': 'red'}), 'colors of b must be a list'),
    (boxed(BOX, colors={'b': [None]}), 'colors of b must be names'),
    (boxed([0.1, 0.2, 0.5, 1, 0.9]), 'in pixels, not shares'),
    (
      boxed(BOX, colours={'b': ['red']}),
      "record 1 .* unknown key 'colours'; known are filename, detect",
    ),
  ],
)
def test_wrong_files_are_one_sentence(tmp_path, text, message):
  (tmp_path / 'd.jsonl').write_text(text)
  with pytest.raises(UserError, match=message):
    read_detections(tmp_path / 'd.jsonl')


def test_pictures_and_detections_must_be_the_same(folder, tmp_path):
  samples = geneval_folder.read_samples(folder)
  judge = lambda *records: geneval_folder.judge(
    folder,
    samples,
    read_detections(write(tmp_path / 'd.jsonl', *records)),
    None,
  )
  with pytest.raises(UserError, match=r'no record for 00001/samples/00001'):
    judge(*DETECTED[:3])
  with pytest.raises(UserError, match=r'record for 00009/.*not a picture'):
    judge(*DETECTED, record(9, 0))


def test_other_folders_are_refused(folder, tmp_path):
  with pytest.raises(UserError, match='is not a folder'):
    geneval_folder.read_samples(tmp_path / 'nowhere')
  with pytest.raises(UserError, match="not in GenEval's format"):
    geneval_folder.read_samples(folder / '00000')
  (folder / '00000' / 'metadata.jsonl').write_text('{"prompt": "a"}')
  with pytest.raises(UserError, match="has no text 'tag'"):
    geneval_folder.read_samples(folder)
