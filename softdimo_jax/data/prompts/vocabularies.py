"""Vocabularies that need no download: CLIP's own and synthetic ones."""

import gzip
import importlib.resources
import re
import string
from collections.abc import Mapping
from typing import Any

# Names the vocabulary shared by all of OpenAI's and LAION's CLIPs.
OPENAI = 'openai'
_MERGES = 'clip_vocabulary/merges.txt.gz'
_WORD_END = '</w>'

# (id of each token, pairs to join).
Pairs = tuple[dict[str, int], list[tuple[str, str]]]


def openai_byte_pairs(ends: tuple[str, str]) -> Pairs:
  """CLIP's vocabulary of 49,408 tokens; `ends` are its special tokens."""
  file = importlib.resources.files('softdimo_jax.data.prompts').joinpath(
    _MERGES
  )
  text = gzip.decompress(file.read_bytes()).decode('utf-8')
  pairs = (line.split(' ') for line in text.splitlines())
  merges = [(first, second) for first, second in pairs]
  joined = [''.join(pair) for pair in merges]
  return _numbered([*_bytes(), *joined, *ends]), merges


def single_bytes(ends: tuple[str, str]) -> Pairs:
  """CLIP's vocabulary without merges, 514 tokens."""
  return _numbered([*_bytes(), *ends]), []


def single_letters(special: tuple[str, ...]) -> dict[str, int]:
  """BERT's special pieces, and printable ASCII at and after word starts."""
  letters = [letter for letter in string.printable if letter.isprintable()]
  return _numbered([*special, *letters, *(f'##{letter}' for letter in letters)])


def check_ids(ids: Mapping[str, Any]) -> None:
  """Raises ValueError unless each token has a whole number of its own."""
  wrong = next((x for x in ids.values() if type(x) is not int or x < 0), None)
  if wrong is not None:
    raise ValueError(f'{wrong!r} is no id')
  if len(set(ids.values())) < len(ids):
    raise ValueError('two tokens have the same id')


def merges(text: str, ids: Mapping[str, int]) -> list[tuple[str, str]]:
  """The pairs of a merges.txt, one a line.

  Raises:
    ValueError: for another line, or if no pair makes a token that is neither a
      byte nor special: without its last pairs, a file splits words otherwise.
  """
  lines = [x for x in text.split('\n') if x and not x.startswith('#version')]
  pairs = [(first, second) for first, second in map(str.split, lines)]
  made = {*_bytes(), *(first + second for first, second in pairs)}
  for token in ids:
    if token not in made and not re.fullmatch('<.*>', token):
      raise ValueError(f'there is no pair for the token {token!r}')
  return pairs


def _bytes() -> list[str]:
  """Characters that represent bytes, inside and at the end of words.

  Printable bytes represent themselves and come first.
  """
  visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
  hidden = [byte for byte in range(256) if byte not in visible]
  names = [chr(byte) for byte in visible]
  names += [chr(256 + index) for index in range(len(hidden))]
  return [*names, *(name + _WORD_END for name in names)]


def _numbered(tokens: list[str]) -> dict[str, int]:
  return {token: index for index, token in enumerate(tokens)}
