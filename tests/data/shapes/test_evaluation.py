"""Evaluation prompts: GenEval's categories and its format."""

import collections
import json

import pytest

from softdimo_jax.data import shapes
from softdimo_jax.data.prompts.records import read_records
from softdimo_jax.evaluation.benchmarks import geneval_rules


def by_tag(records):
  groups = collections.defaultdict(list)
  for record in records:
    groups[record['tag']].append(record)
  return groups


def test_six_categories_of_equal_size():
  groups = by_tag(shapes.evaluation_prompts(per_category=20))
  assert tuple(groups) == geneval_rules.TAGS == tuple(shapes.CATEGORIES)
  assert {len(group) for group in groups.values()} == {20}


def test_the_relations_are_those_of_the_rules():
  assert shapes.RELATIONS == geneval_rules.RELATIONS


def test_prompts_are_fixed_and_repeat_as_late_as_possible():
  records = shapes.evaluation_prompts()
  assert records == shapes.evaluation_prompts()
  assert records != shapes.evaluation_prompts(seed=8)
  assert records[:2] != shapes.evaluation_prompts(seed=8)[96:98]
  sizes = dict(zip(geneval_rules.TAGS, (4, 12, 12, 24, 48, 360), strict=True))
  for tag, group in by_tag(records).items():
    count = collections.Counter(record['prompt'] for record in group)
    assert len(count) == min(sizes[tag], 96)
    assert max(count.values()) - min(count.values()) <= 1


@pytest.mark.parametrize(
  ('text', 'record'),
  [
    (
      'a circle',
      {'tag': 'single_object', 'include': [{'class': 'circle', 'count': 1}]},
    ),
    (
      'a circle and a square',
      {
        'tag': 'two_object',
        'include': [
          {'class': 'circle', 'count': 1},
          {'class': 'square', 'count': 1},
        ],
      },
    ),
    (
      'three crosses',
      {
        'tag': 'counting',
        'include': [{'class': 'cross', 'count': 3}],
        'exclude': [{'class': 'cross', 'count': 4}],
      },
    ),
    (
      'a red circle',
      {
        'tag': 'colors',
        'include': [{'class': 'circle', 'count': 1, 'color': 'red'}],
      },
    ),
    (
      'a circle left of a blue square',
      {
        'tag': 'position',
        'include': [
          {'class': 'square', 'count': 1, 'color': 'blue'},
          {'class': 'circle', 'count': 1, 'position': ['left of', 0]},
        ],
      },
    ),
    (
      'a red circle and a blue square',
      {
        'tag': 'color_attr',
        'include': [
          {'class': 'circle', 'count': 1, 'color': 'red'},
          {'class': 'square', 'count': 1, 'color': 'blue'},
        ],
      },
    ),
  ],
)
def test_records(text, record):
  ours = shapes.record_of(shapes.parse(text))
  assert ours == record | {'prompt': text}
  assert list(ours) == [*record, 'prompt']  # In GenEval's order.


def test_records_survive_a_file(tmp_path):
  records = shapes.evaluation_prompts(per_category=5)
  file = tmp_path / 'evaluation_metadata.jsonl'
  file.write_text('\n'.join(map(json.dumps, records)))
  assert read_records(file) == records
  assert json.loads(file.read_text().splitlines()[0]) == records[0]


def test_a_prompt_tokenizes_and_keeps_its_meaning():
  for record in shapes.evaluation_prompts(per_category=60):
    text = shapes.untokenize(shapes.tokenize(record['prompt']))
    assert shapes.record_of(shapes.parse(text)) == record


def test_colored_prompts_state_and_require_every_color():
  records = shapes.evaluation_prompts(per_category=200, colored=True)
  assert tuple(by_tag(records)) == geneval_rules.TAGS
  for record in records:
    statement = shapes.parse(record['prompt'])
    assert all(phrase.color for phrase in statement.phrases)
    assert shapes.record_of(statement) == record | {
      'tag': shapes.record_of(statement)['tag']
    }
  counts = {
    tag: len({record['prompt'] for record in group})
    for tag, group in by_tag(records).items()
  }
  assert counts['single_object'] == counts['colors'] == 24
  assert counts['counting'] == 72
  assert counts['two_object'] == counts['position'] == 200
