"""Captions as tokens, one id per word."""

import difflib
from collections.abc import Sequence

import numpy as np

from softdimo_jax.data.shapes.language import WORDS, split
from softdimo_jax.errors import UserError

PAD = 0
# As in CLIP, END has the largest id: the text tower pools there.
START = len(WORDS) + 1
END = len(WORDS) + 2
SIZE = len(WORDS) + 3
# "a red circle left of a blue square" with START and END.
MAX_LENGTH = 10

_SHOWN = 3
_LONGEST_WORD = 24
_IDS = {word: index for index, word in enumerate(WORDS, start=1)}


def tokenize(text: str, length: int = MAX_LENGTH) -> np.ndarray:
  """Ids of a prompt's words.

  Args:
    text: words of the vocabulary in any order; case and punctuation are
      ignored.
    length: T, tokens in the result.

  Returns:
    int32 [T]: START, words, END, PAD.

  Raises:
    UserError: if the prompt is empty, too long, or has unknown words.
  """
  words = split(text)
  if not words:
    raise UserError('the prompt is empty; write e.g. "a red circle"')
  if len(words) > length - 2:
    raise UserError(
      f'the prompt has {len(words)} words, more than the {length - 2} that '
      f'fit: "{text.strip()[:40]}..."'
    )
  unknown = list(dict.fromkeys(word for word in words if word not in _IDS))
  if unknown:
    raise UserError(_unknown_words(unknown))
  return _framed([_IDS[word] for word in words], length)


def tokenize_all(texts: Sequence[str], length: int = MAX_LENGTH) -> np.ndarray:
  """Ids of several prompts: int32 [N, T]; errors as `tokenize`."""
  rows = [tokenize(text, length) for text in texts]
  return np.stack(rows) if rows else np.zeros((0, length), np.int32)


def null_tokens(length: int = MAX_LENGTH) -> np.ndarray:
  """Tokens of the empty caption, for guidance: int32 [T]."""
  return _framed([], length)


def untokenize(tokens: np.ndarray) -> str:
  """Words of token ids [T]; special tokens are omitted.

  Raises:
    ValueError: for ids outside the vocabulary.
  """
  tokens = np.asarray(tokens)
  if tokens.size and not 0 <= tokens.min() <= tokens.max() < SIZE:
    raise ValueError(f'tokens must be in [0, {SIZE}), got {tokens}')
  return ' '.join(WORDS[i - 1] for i in tokens.ravel() if 0 < i < START)


def _framed(ids: list[int], length: int) -> np.ndarray:
  tokens = np.full(length, PAD, np.int32)
  tokens[: len(ids) + 2] = [START, *ids, END]
  return tokens


def _unknown_words(words: list[str]) -> str:
  """Message with the unknown words and the nearest known ones."""
  shown = ', '.join(_with_nearest(word) for word in words[:_SHOWN])
  more = len(words) - _SHOWN
  rest = f' and {more} more' if more > 0 else ''
  return f'unknown words in the prompt: {shown}{rest}'


def _with_nearest(word: str) -> str:
  shown = word[:_LONGEST_WORD]
  nearest = difflib.get_close_matches(shown, WORDS, n=3, cutoff=0)
  return f'{shown!r} (nearest: {", ".join(nearest)})'
