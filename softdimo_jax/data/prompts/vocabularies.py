"""Vocabularies that need no download: CLIP's own, and made-up ones."""

import gzip
import importlib.resources
import string

# Stands for the vocabulary that all of OpenAI's and LAION's CLIPs have.
OPENAI = 'openai'
_MERGES = 'clip_vocabulary/merges.txt.gz'
_WORD_END = '</w>'

# (ids of the tokens, pairs that are joined).
Pairs = tuple[dict[str, int], list[tuple[str, str]]]


def openai_byte_pairs(ends: tuple[str, str]) -> Pairs:
  """CLIP's vocabulary, 49,408 tokens; `ends` are its special ones."""
  file = importlib.resources.files(__package__).joinpath(_MERGES)
  text = gzip.decompress(file.read_bytes()).decode('utf-8')
  merges = [tuple(line.split(' ')) for line in text.splitlines()]
  joined = [''.join(pair) for pair in merges]
  return _numbered([*_bytes(), *joined, *ends]), merges


def single_bytes(ends: tuple[str, str]) -> Pairs:
  """CLIP's without its merges, 514 tokens."""
  return _numbered([*_bytes(), *ends]), []


def single_letters(special: tuple[str, ...]) -> dict[str, int]:
  """BERT's special pieces, and printable ASCII inside and outside of words."""
  letters = [letter for letter in string.printable if letter.isprintable()]
  return _numbered([*special, *letters, *(f'##{letter}' for letter in letters)])


def _bytes() -> list[str]:
  """Characters that stand for bytes, inside and at the end of words.

  Those that can be printed stand for themselves and come first.
  """
  visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
  hidden = [byte for byte in range(256) if byte not in visible]
  names = [chr(byte) for byte in visible]
  names += [chr(256 + place) for place in range(len(hidden))]
  return [*names, *(name + _WORD_END for name in names)]


def _numbered(tokens: list[str]) -> dict[str, int]:
  return {token: index for index, token in enumerate(tokens)}
