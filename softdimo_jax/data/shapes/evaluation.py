"""Prompts about this world in GenEval's six categories and format."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator

import numpy as np

from softdimo_jax.data.prompts.records import Record
from softdimo_jax.data.shapes.language import RELATIONS, Phrase, Statement
from softdimo_jax.data.shapes.world import COLORS, MAX_COUNT, SHAPES

_SEED = 7


def evaluation_prompts(
  per_category: int = 96, seed: int = _SEED, *, colored: bool = False
) -> list[Record]:
  """Fixed prompts, the same number per category.

  A category's prompts are shuffled and then taken in turn, so no prompt repeats
  before all others of its category have occurred. The world has 4 single
  objects, 12 pairs, 12 counts, 24 colours, 48 positions and 360 attributions.

  Args:
    per_category: at least 1.
    seed: seed of the order.
    colored: whether every prompt states the colours of all objects, as captions
      do in a world with `mention_color` 1; the rules then test them in every
      category. That makes 24 single objects, 432 pairs, 72 counts and 1,728
      positions.

  Returns:
    6 * per_category records, category by category.
  """
  rng = np.random.default_rng(seed)
  records = []
  for tag, statements in CATEGORIES.items():
    known = statements()
    if colored:
      known = [x for statement in known for x in _colored(statement)]
    order = rng.permutation(len(known))
    for index in itertools.islice(itertools.cycle(order), per_category):
      records.append({**record_of(known[index]), 'tag': tag})
  return records


def record_of(statement: Statement) -> Record:
  """GenEval's record of a statement: what a picture must show.

  Returns:
    A record with `tag`, `include`, `exclude` (counting only) and `prompt`. For
    a relation the second object, its target, comes first.
  """
  entries = [_entry(phrase) for phrase in statement.phrases]
  if statement.relation:
    entries.reverse()
    entries[1]['position'] = [statement.relation, 0]
  record = {'tag': _tag(statement), 'include': entries}
  first = statement.phrases[0]
  if first.count > 1:
    record['exclude'] = [{'class': first.shape, 'count': first.count + 1}]
  return record | {'prompt': statement.text}


def _colored(statement: Statement) -> Iterator[Statement]:
  """The statement with every choice of the colours that it leaves open."""
  choices = [
    (phrase.color,) if phrase.color else COLORS for phrase in statement.phrases
  ]
  for colors in itertools.product(*choices):
    phrases = tuple(
      dataclasses.replace(phrase, color=color)
      for phrase, color in zip(statement.phrases, colors, strict=True)
    )
    yield dataclasses.replace(statement, phrases=phrases)


def _entry(phrase: Phrase) -> dict:
  entry = {'class': phrase.shape, 'count': phrase.count}
  return entry | ({'color': phrase.color} if phrase.color else {})


def _tag(statement: Statement) -> str:
  """The category that tests most of the statement."""
  phrases = statement.phrases
  if statement.relation:
    return 'position'
  if phrases[0].count > 1:
    return 'counting'
  if len(phrases) == 2:
    both = all(phrase.color for phrase in phrases)
    return 'color_attr' if both else 'two_object'
  return 'colors' if phrases[0].color else 'single_object'


def _single() -> list[Statement]:
  return [Statement((Phrase(shape),)) for shape in SHAPES]


def _pairs() -> list[tuple[Phrase, Phrase]]:
  return [(Phrase(a), Phrase(b)) for a, b in itertools.permutations(SHAPES, 2)]


def _two() -> list[Statement]:
  return [Statement(pair) for pair in _pairs()]


def _counting() -> list[Statement]:
  return [
    Statement((Phrase(shape, count=count),))
    for shape in SHAPES
    for count in range(2, MAX_COUNT + 1)
  ]


def _colors() -> list[Statement]:
  return [
    Statement((Phrase(shape, color),)) for shape in SHAPES for color in COLORS
  ]


def _positions() -> list[Statement]:
  return [
    Statement(pair, relation) for pair in _pairs() for relation in RELATIONS
  ]


def _attributions() -> list[Statement]:
  return [
    Statement((Phrase(a.shape, first), Phrase(b.shape, second)))
    for a, b in _pairs()
    for first, second in itertools.permutations(COLORS, 2)
  ]


CATEGORIES: dict[str, Callable[[], list[Statement]]] = {
  'single_object': _single,
  'two_object': _two,
  'counting': _counting,
  'colors': _colors,
  'position': _positions,
  'color_attr': _attributions,
}
