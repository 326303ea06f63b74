"""GenEval's records, and what may be wrong with them."""

import json

import pytest

from softdimo_jax.data.prompts.records import read_records
from softdimo_jax.errors import UserError

RECORD = {
  'tag': 'position',
  'include': [
    {'class': 'dog', 'count': 1},
    {'class': 'cat', 'count': 1, 'position': ['above', 0]},
  ],
  'prompt': 'a photo of a cat above a dog',
}


def test_records_may_begin_with_a_mark(tmp_path):
  file = tmp_path / 'evaluation_metadata.JSONL'
  file.write_text(f'\ufeff{json.dumps(RECORD)}\n\n{json.dumps(RECORD)}\n')
  assert read_records(file) == [RECORD, RECORD]


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'tag': None}, "line 1 of .* has no text 'tag'"),
    ({'include': {}}, 'must have lists'),
    ({'include': [{'class': 'dog'}]}, 'a class and a count'),
    ({'include': [{'class': 'dog', 'count': 0}]}, 'a class and a count'),
    ({'exclude': ['dog']}, 'a class and a count'),
    (
      {'include': [{'class': 'dog', 'count': 1, 'color': None}]},
      'a class and a count',
    ),
    ({'includes': []}, "line 1 .* unknown key 'includes'; known are tag, inc"),
    ({'include': []}, 'asks for nothing'),
    (
      {'include': [{'class': 'dog', 'count': 1, 'colour': 'red'}]},
      "unknown key 'colour'; known are class, count, color",
    ),
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
    read_records(file)
