"""Files of prompts: which kind they are, and what is refused."""

import pytest

from softdimo_jax.data.prompts import sources
from softdimo_jax.errors import UserError


def read(tmp_path, name, text, field=None):
  path = tmp_path / name
  path.write_bytes(text.encode() if isinstance(text, str) else text)
  return sources.read_file(path, field)


@pytest.mark.parametrize(
  ('name', 'text', 'expected'),
  [
    ('a', 'a\n\nb\n\n', ('a', 'b')),
    ('a.TXT', '[a cat]\n{b}\na poster, text', ('[a cat]', '{b}')),
    ('a.txt', '{"prompt": "a"}\n{"prompt": "b"}\n', ('a', 'b')),
    ('a.txt', '["a",\n "b"]', ('a', 'b')),
    ('a.JSONL', '{"Prompt": "a"}\n{"TEXT": "b"}\n', ('a', 'b')),
    ('a.json', '{"prompt": "a"}\n{"prompt": "b"}\n', ('a', 'b')),
    ('a.jsonl', '["a", {"prompt": "b"}]', ('a', 'b')),
    (
      'a.CSV',
      '\ufeffid,Caption\n1,"a ""big"" cat"\n2,"b, c"\n',
      ('a "big" cat',),
    ),
    ('a.csv', 'id,text\n1,"a\nb"\n2,c', ('a\nb', 'c')),
    ('a.csv', 'id;text\n1;a, b\n', ('a, b',)),
    ('a.tsv', 'id\tcaption\n1\ta, b\n', ('a, b',)),
    ('a.csv', 'text,prompt\nnot this,a\n', ('a',)),
  ],
)
def test_kinds(tmp_path, name, text, expected):
  assert read(tmp_path, name, text).texts[: len(expected)] == expected


@pytest.mark.parametrize(
  ('name', 'text', 'message'),
  [
    ('a.yaml', '- a\n- b', 'not a list of prompts; pass text'),
    ('a.txt', b'PAR1', 'pyarrow|parquet'),
    ('a.txt', b'1.jpg\ta\n2.jpg\tb\n', 'each line has a tab'),
    (
      'a.txt',
      b'caption\na\nb\n',
      'begins with the name of a column',
    ),
    ('a.txt', b'[\n "a",\n "b",\n]\n', 'is not a list of prompts: it begins'),
    ('a.txt', b"['a', 'b']\n", 'is not a list of prompts'),
    ('a.txt', b'<!DOCTYPE html>', 'is not a list of prompts'),
    ('a.txt', b'version https://git-lfs.github', 'is not a list of prompts'),
    ('a.jsonl', b'{"text": "a", "text": "b"}', "has the key 'text' twice"),
    (
      'a.jsonl',
      b'{"text": "a", "id": 1}\n{"text": "b", "image_id": 1}',
      'names its image by',
    ),
    ('a.txt', b'\x1f\x8b\x08', 'is binary, not a list'),
    ('a.txt', b'a\nb\0', r'is binary, not text: line 2'),
    ('a.txt', 'a'.encode('utf-16'), 'is UTF-16, not UTF-8'),
    ('a.txt', b'a\nb\xff', r'not UTF-8 text \(line 2, byte 3\)'),
    (
      'a.txt',
      'image_id,text\n1,a',
      'like a table with the columns image_id, t',
    ),
    ('a.csv', 'id,text\n1,a cat, a dog\n', 'line 2 of .* has 3 fields, but'),
    ('a.csv', 'text\na cat, a dog\n', 'line 2 of .* has 2 fields, but'),
    (
      'a.csv',
      'id,text\n0,x\n1,"a\n2,b\n',
      'row that begins in line 3 of .*quote',
    ),
    (
      'a.csv',
      'id,text\n1,"a\n2,b"\n',
      'line 3 of .* looks like a row.* line 2;',
    ),
    ('a.csv', 'id,text\n1,"a\n2,"b"\n', 'row that begins in line 2 of'),
    ('a.csv', 'text\n"' + 'a' * 140_000, 'row that begins in line 2 of'),
    ('a.csv', 'name\na\n', 'name one with --field: name'),
    ('a.csv', 'Text,text\na,b\n', 'two columns Text and text'),
    ('a.csv', 'text\n\n', 'contains no prompts'),
    ('a.json', '{"a":\n 1}', 'must be a JSON list of strings or objects'),
    ('a.json', '[' * 100_000, 'is not JSON: its lists or objects are nested'),
    ('a.json', '1' * 5000, 'is not JSON: Exceeds the limit'),
    ('a.jsonl', '{"prompt": "a"}\n{', 'line 2 of .* is not JSON'),
    ('a.jsonl', '{"prompt": "a"}\n3', 'line 2 of .* is not a JSON object'),
    ('a.jsonl', '{"prompt": "\\ud800"}', 'line 1 of .* unpaired surrogate'),
  ],
)
def test_mistakes_are_one_sentence(tmp_path, name, text, message):
  with pytest.raises(UserError, match=message):
    read(tmp_path, name, text)


def test_a_field_by_name(tmp_path):
  assert read(tmp_path, 'a.csv', 'Name,text\na,b\n', 'name').texts == ('a',)
  assert read(tmp_path, 'a.json', '[{"x": "a"}]', 'x').texts == ('a',)
  with pytest.raises(
    UserError, match=r"'x' is not a column of .* are id, text"
  ):
    read(tmp_path, 'a.csv', 'id,text\n1,a\n', 'x')
  with pytest.raises(UserError, match="plain text, which has no field 'x'"):
    read(tmp_path, 'a.txt', 'a\n', 'x')


def test_what_was_read_is_said(tmp_path):
  assert str(read(tmp_path, 'a.txt', 'a\n\nb\n')) == (
    f'2 prompts of {tmp_path}/a.txt (1 empty ones left out)'
  )
