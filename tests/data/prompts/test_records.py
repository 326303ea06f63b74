"""Prompt files, and what may be wrong with them."""

import json

import pytest

from softdimo_jax.data.prompts import files
from softdimo_jax.errors import UserError

RECORD = {
  'tag': 'position',
  'include': [
    {'class': 'dog', 'count': 1},
    {'class': 'cat', 'count': 1, 'position': ['above', 0]},
  ],
  'prompt': 'a photo of a cat above a dog',
}


def test_lines_are_prompts(tmp_path):
  file = tmp_path / 'prompts.txt'
  file.write_text('a red circle\n\n  zwei Größen \r\n', 'utf-8')
  assert files.read_prompts(file) == ['a red circle', 'zwei Größen']


def test_records_have_prompts(tmp_path):
  file = tmp_path / 'evaluation_metadata.jsonl'
  file.write_text(json.dumps(RECORD) + '\n{"prompt": "a dog"}\n')
  assert files.read_prompts(file) == [RECORD['prompt'], 'a dog']


def test_files_that_cannot_be_read(tmp_path):
  with pytest.raises(UserError, match=r'nowhere.* cannot be read: No such'):
    files.read_prompts(tmp_path / 'nowhere')
  with pytest.raises(UserError, match='cannot be read: Is a directory'):
    files.read_prompts(tmp_path)
  latin = tmp_path / 'latin.txt'
  latin.write_bytes('a grün circle'.encode('latin-1'))
  with pytest.raises(UserError, match=r'latin.txt is not UTF-8 .*byte 4'):
    files.read_prompts(latin)
  empty = tmp_path / 'empty.txt'
  empty.write_text('\n \n')
  with pytest.raises(UserError, match='contains no prompts'):
    files.read_prompts(empty)


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('{', 'line 2 of .* is not JSON'),
    ('[]', "line 2 of .* has no text 'prompt'"),
    ('{"prompt": 3}', "line 2 of .* has no text 'prompt'"),
  ],
)
def test_bad_lines_are_named(tmp_path, line, message):
  file = tmp_path / 'some.jsonl'
  file.write_text(f'{json.dumps(RECORD)}\n{line}\n')
  with pytest.raises(UserError, match=message):
    files.read_prompts(file)


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'tag': None}, "record 1 of .* has no text 'tag'"),
    ({'include': {}}, 'must have lists'),
    ({'include': [{'class': 'dog'}]}, 'a class and a count'),
    ({'include': [{'class': 'dog', 'count': 0}]}, 'a class and a count'),
    ({'exclude': ['dog']}, 'a class and a count'),
    (
      {'include': [{'class': 'a', 'count': 1, 'position': ['above', 0]}]},
      'no earlier entry',
    ),
  ],
)
def test_records_that_ask_nothing_sensible(tmp_path, change, message):
  file = tmp_path / 'some.jsonl'
  file.write_text(json.dumps(RECORD | change))
  with pytest.raises(UserError, match=message):
    files.read_records(file)
