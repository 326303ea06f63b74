"""Captions and their tokens, and what a user may get wrong."""

import itertools

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from softdimo_jax.data import shapes
from softdimo_jax.data.shapes import language, vocabulary
from softdimo_jax.errors import UserError

words = st.lists(st.sampled_from(language.WORDS), min_size=1, max_size=8)


def all_statements():
  return itertools.chain.from_iterable(
    statements() for statements in shapes.CATEGORIES.values()
  )


def test_captions_read_well():
  phrase = shapes.Phrase
  assert phrase('cross', 'red', 3).text == 'three red crosses'
  statement = shapes.Statement(
    (phrase('circle', 'red'), phrase('square', 'blue')), 'left of'
  )
  assert statement.text == 'a red circle left of a blue square'
  pair = shapes.Statement((phrase('circle'), phrase('square', 'blue')))
  assert pair.text == 'a circle and a blue square'


def test_parsing_undoes_writing():
  for statement in all_statements():
    assert shapes.parse(statement.text) == statement
  rng = np.random.default_rng(0)
  for _ in range(300):
    statement = shapes.draw(shapes.World(), rng).statement
    assert shapes.parse(statement.text) == statement
  assert shapes.parse(' A red  Circle, left of a SQUARE. ') == shapes.parse(
    'a red circle left of a square'
  )


@pytest.mark.parametrize(
  'text',
  [
    '',
    'circle',
    'a circles',
    'two circle',
    'a circle a square',
    'a red circle and a blue circle',
    'a circle left a square',
    'a circle and a square and a cross',
    'five circles',
    'a red',
  ],
)
def test_what_is_no_caption_is_refused(text):
  with pytest.raises(UserError, match='is not a caption'):
    shapes.parse(text)


def test_the_vocabulary():
  assert len(set(language.WORDS)) == len(language.WORDS) == 24
  assert vocabulary.SIZE == 27
  longest = max(len(statement.text.split()) for statement in all_statements())
  assert longest <= vocabulary.MAX_LENGTH - 2
  tokens = shapes.tokenize('a red circle left of a blue square')
  assert tokens.shape == (10,) and tokens.dtype == np.int32
  assert tokens[0] == vocabulary.START
  assert tokens.argmax() == 9 and tokens[9] == vocabulary.END
  assert (shapes.tokenize('a cross')[4:] == vocabulary.PAD).all()


@hypothesis.given(words)
@hypothesis.settings(deadline=None)
def test_untokenizing_undoes_tokenizing(some):
  text = ' '.join(some)
  tokens = shapes.tokenize(text, length=12)
  assert shapes.untokenize(tokens) == text
  assert (tokens == vocabulary.END).sum() == 1
  assert tokens.argmax() == len(some) + 1


def test_no_caption():
  assert shapes.untokenize(shapes.null_tokens()) == ''
  assert list(shapes.null_tokens(4)) == [vocabulary.START, vocabulary.END, 0, 0]


def test_many_captions():
  texts = ['a circle', 'Two crosses!']
  tokens = shapes.tokenize_all(texts)
  np.testing.assert_array_equal(tokens[1], shapes.tokenize('two crosses'))
  assert shapes.tokenize_all([]).shape == (0, 10)


@pytest.mark.parametrize('text', ['', '  \n', '?!'])
def test_empty_prompts_are_refused(text):
  with pytest.raises(UserError, match='the prompt is empty'):
    shapes.tokenize(text)


def test_unknown_words_are_named_with_the_nearest():
  with pytest.raises(UserError) as caught:
    shapes.tokenize('a rde circel left of a cat')
  message = str(caught.value)
  assert "'rde' (nearest: red" in message
  assert "'circel' (nearest: circle" in message
  assert "'cat' (nearest: " in message
  assert '\n' not in message


def test_messages_stay_short():
  with pytest.raises(UserError) as caught:
    shapes.tokenize(' '.join(f'x{i}' + 'y' * 1000 for i in range(8)))
  assert str(caught.value).endswith('and 5 more')
  assert len(str(caught.value)) < 400
  with pytest.raises(UserError, match='2000 words, more than the 8') as caught:
    shapes.tokenize('x' * 2 + ' word' * 1999)
  assert len(str(caught.value)) < 200
  with pytest.raises(UserError, match='unknown words') as caught:
    shapes.tokenize('z' * 10_000)
  assert len(str(caught.value)) < 200


@pytest.mark.parametrize('tokens', [[-1, 2], [3, 27]])
def test_ids_outside_the_vocabulary_are_refused(tokens):
  with pytest.raises(ValueError, match=r'in \[0, 27\)'):
    shapes.untokenize(np.array(tokens))
