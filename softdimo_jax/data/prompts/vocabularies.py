"""Vocabularies that need no download: CLIP's own and synthetic ones."""

import gzip
import importlib.resources
import string

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
