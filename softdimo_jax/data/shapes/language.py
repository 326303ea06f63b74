"""Statements that captions make, and their words."""

import dataclasses
import re

from softdimo_jax.data.shapes.world import COLORS, MAX_COUNT, SHAPES
from softdimo_jax.errors import UserError

NUMBERS = ('a', 'two', 'three', 'four')
RELATIONS = ('left of', 'right of', 'above', 'below')


def plural(shape: str) -> str:
  """Plural of a shape's name, by GenEval's rule."""
  return f'{shape}es' if shape.endswith('s') else f'{shape}s'


@dataclasses.dataclass(frozen=True)
class Phrase:
  """Objects of one kind: "a circle", "three red squares".

  Attributes:
    shape: one of `SHAPES`.
    color: one of `COLORS`, or None if not stated.
    count: 1 to `MAX_COUNT`.
  """

  shape: str
  color: str | None = None
  count: int = 1

  @property
  def text(self) -> str:
    """The phrase in words."""
    shape = self.shape if self.count == 1 else plural(self.shape)
    words = (NUMBERS[self.count - 1], self.color, shape)
    return ' '.join(word for word in words if word)


@dataclasses.dataclass(frozen=True)
class Statement:
  """Statement of a caption about a scene.

  Attributes:
    phrases: one, or two with different shapes.
    relation: position of the first relative to the second, one of
      `RELATIONS`, or None.
  """

  phrases: tuple[Phrase, ...]
  relation: str | None = None

  @property
  def text(self) -> str:
    """The caption: "a red circle left of a blue square"."""
    joint = f' {self.relation or "and"} '
    return joint.join(phrase.text for phrase in self.phrases)


# In order of their ids.
WORDS = (
  *NUMBERS,
  *COLORS,
  *SHAPES,
  *map(plural, SHAPES),
  'and',
  *dict.fromkeys(word for text in RELATIONS for word in text.split()),
)

_PHRASE = rf'({"|".join(NUMBERS)}) (?:({"|".join(COLORS)}) )?(\w+)'
_STATEMENT = re.compile(
  rf'{_PHRASE}(?: (and|{"|".join(RELATIONS)}) {_PHRASE})?'
)


def split(text: str) -> list[str]:
  """Words of a prompt, in lower case and without punctuation."""
  return re.sub(r'[.,;:!?"]', ' ', text.lower()).split()


def parse(text: str) -> Statement:
  """Statement of a caption; the inverse of `Statement.text`.

  Args:
    text: e.g. "a red circle left of a blue square".

  Raises:
    UserError: if the text is not a caption.
  """
  match = _STATEMENT.fullmatch(' '.join(split(text)))
  if match is None:
    raise _not_understood(text)
  first, joint, second = match.group(1, 2, 3), match[4], match.group(5, 6, 7)
  parts = (first, second) if joint else (first,)
  phrases = tuple(_phrase(text, *part) for part in parts)
  if len({phrase.shape for phrase in phrases}) < len(phrases):
    raise _not_understood(text)
  return Statement(phrases, None if joint == 'and' else joint)


def _phrase(text: str, number: str, color: str | None, shape: str) -> Phrase:
  count = NUMBERS.index(number) + 1
  for name in SHAPES:
    if shape == (name if count == 1 else plural(name)):
      return Phrase(name, color, count)
  raise _not_understood(text)


def _not_understood(text: str) -> UserError:
  return UserError(
    f'{text[:80]!r} is not a caption; write e.g. "a circle", "two red squares" '
    f'(up to {NUMBERS[MAX_COUNT - 1]}) or "a red circle left of a blue square" '
    f'({", ".join(RELATIONS)}, and) with two different shapes'
  )
