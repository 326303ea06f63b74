"""Which caption belongs to which image."""

import numpy as np
import pytest

from softdimo_jax.data.prompts import pairs, sources
from softdimo_jax.errors import UserError


def paired(table, names, chosen=None, tmp_path=None):
  if isinstance(table, str):
    (tmp_path / 'a.csv').write_text(table)
    prompts = sources.read_file(tmp_path / 'a.csv')
  else:
    prompts = sources.typed(table, 'FILE')
  chosen = range(len(names)) if chosen is None else chosen
  return pairs.captions(prompts, names, np.array(chosen))


def test_a_subset_takes_its_captions_along(capsys):
  texts, names = list('abcdefghijkl'), [f'{i}.png' for i in range(12)]
  assert paired(texts, names) == texts
  assert paired(texts, names, [2, 10]) == ['c', 'k']
  assert "0.png to 'a', ..., 11.png to 'l'" in capsys.readouterr().out


@pytest.mark.parametrize(
  ('texts', 'names', 'message'),
  [
    (
      ['a', 'b', 'c'],
      ['0.png', '1.png'],
      '2 images need 2 prompts, but FILE h',
    ),
    (['a', 'b'], ['0.png', '2.png'], 'from 0 to 2, but 1 is missing'),
    (['a', 'b'], ['0.jpg', '0.png'], 'two images have the number 0'),
    (['a', 'b'], ['00.png', '0.png'], 'two images have the number 0'),
  ],
)
def test_an_order_in_doubt_is_refused(texts, names, message):
  with pytest.raises(UserError, match=message):
    paired(texts, names)


def test_a_gap_of_prompts_is_in_doubt_too(tmp_path):
  (tmp_path / 'a.txt').write_text('a\n\nb\n')
  prompts = sources.read_file(tmp_path / 'a.txt')
  with pytest.raises(UserError, match='1 empty prompts, so it is not certain'):
    pairs.captions(prompts, ['0.png', '1.png'], np.arange(2))
  (tmp_path / 'a.jsonl').write_text('{"captions": ["a", "b"]}')
  prompts = sources.read_file(tmp_path / 'a.jsonl')
  with pytest.raises(UserError, match=r'line 1 of .* has several prompts'):
    pairs.captions(prompts, ['0.png', '1.png'], np.arange(2))


def test_names_without_a_sequence_pair_in_order():
  for names in (
    ['cat.png', 'dog.png'],
    ['5.png', '9.png'],
    ['COCO_val2014_000000000007.jpg', 'COCO_val2014_000000000042.jpg'],
    ['00000/samples/0.png', '00001/samples/0.png'],
  ):
    assert paired(['a', 'b'], names) == ['a', 'b']


@pytest.mark.parametrize(
  ('table', 'names', 'expected'),
  [
    ('image_id,text\n42,a\n7,b\n', ['7.png', '0042.png'], ['b', 'a']),
    (
      'Image_ID,text\n000042,a\n7.0,b\n',
      ['COCO_val2014_000000000007.jpg', 'COCO_val2014_000000000042.jpg'],
      ['b', 'a'],
    ),
    (
      'file_name,text\nx/1.jpg,a\ny/1.jpg,b\n',
      ['y/1.jpg', 'x/1.jpg'],
      ['b', 'a'],
    ),
    ('filename,text\ncat.jpg,a\n', ['cat.png'], ['a']),
    ('id,text\ncat,a\n', ['x/cat.webp'], ['a']),
    ('id,text\n1,a\n2,b\n3,c\n', ['3'], ['c']),
  ],
)
def test_ids_are_names_or_numbers(tmp_path, table, names, expected):
  assert paired(table, names, tmp_path=tmp_path) == expected


@pytest.mark.parametrize(
  ('table', 'names', 'message'),
  [
    ('id,text\n1,a\n1,b\n', ['1.png'], r'two captions .* 1: line 2 and line 3'),
    (
      'id,text\n1,a\n01,b\n',
      ['1.png'],
      r'two captions .* 01: line 2 and line 3',
    ),
    ('id,text\n1,a\n', ['a/1.png', 'b/1.png'], r'a/1.png and b/1.png are both'),
    ('id,text\n1,a\n', ['1.png', '2.png'], r'no caption for 2\.png'),
    ('id,text\n1,\n2,b\n', ['1.png'], r'no caption for 1\.png'),
    ('id,text\n,a\n2,b\n', ['2.png'], r'line 2 of .* names no image'),
    ('id,text\n1,a\n', ['x1.png'], r'no caption for x1\.png'),
  ],
)
def test_missing_and_double_ones_are_named(tmp_path, table, names, message):
  with pytest.raises(UserError, match=message):
    paired(table, names, tmp_path=tmp_path)


def test_captions_without_an_image_are_said(caplog):
  assert pairs.matched(['0', '1', '2'], ['00002.jpg'], 'x.json') == [2]
  assert 'x.json without an image: 2 (0, 1)' in caplog.text
