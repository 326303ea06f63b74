"""Token ids of prompts for CLIP's text towers and ImageReward.

Vocabularies are files of the released models, in a local folder or a
repository on the Hugging Face Hub.
"""

import dataclasses
import functools
import html
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ftfy
import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from softdimo_jax.convert import sources
from softdimo_jax.convert.rule_weights import RULE
from softdimo_jax.data.prompts import vocabularies
from softdimo_jax.errors import UserError
from softdimo_jax.runtime.files import read_text, unique_json

# Prefix of every prompt in Di[M]O's CLIP score, with clean='openai'.
DIMO_PREFIX = 'A photo depicts '

# Contractions, words, single digits, and runs of anything else.
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"
_OPENAI_ENDS = ('<|startoftext|>', '<|endoftext|>')
_WORD_PIECES = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
# Tokens that BLIP adds to BERT's vocabulary; the score uses neither.
_BLIP_PIECES = ('[DEC]', '[ENC]')


@dataclasses.dataclass(frozen=True)
class TextTokens:
  """A batch of prompts.

  Attributes:
    ids: int32 [B, T].
    mask: bool [B, T], False at padding.
    cut: bool [B], whether each prompt was truncated.
  """

  ids: np.ndarray
  mask: np.ndarray
  cut: np.ndarray


@dataclasses.dataclass(frozen=True)
class BytePairs:
  """CLIP's vocabulary.

  Attributes:
    ids: id of each token.
    merges: pairs of tokens to join, by priority.
  """

  ids: Mapping[str, int]
  merges: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class _Cleaning:
  """Text preparation of one of CLIP's official tokenizers.

  Attributes:
    clean: applied to the whole text.
    normalizer: applied to the text between special tokens, or None.
    ends: names of the start and end tokens, which text may contain literally.
    ends_fill: whether the end token is the padding; otherwise it is id 0.
  """

  clean: Callable[[str], str]
  normalizer: normalizers.Normalizer | None
  ends: tuple[str, str]
  ends_fill: bool


def _fixed(text: str) -> str:
  """Resolves mojibake, curly quotes, ligatures, HTML entities; lower case.

  Entities are resolved twice, because some captions were escaped twice.
  """
  text = html.unescape(html.unescape(ftfy.fix_text(text)))
  return ' '.join(text.split()).lower()


_CLEANINGS = {
  'open_clip': _Cleaning(
    _fixed, None, ('<start_of_text>', '<end_of_text>'), False
  ),
  'openai': _Cleaning(_fixed, None, _OPENAI_ENDS, False),
  'hf': _Cleaning(
    str,
    normalizers.Sequence(
      [
        normalizers.NFC(),
        normalizers.Replace(tokenizers.Regex(r'\s+'), ' '),
        normalizers.Lowercase(),
      ]
    ),
    _OPENAI_ENDS,
    True,
  ),
}


CLEANINGS = tuple(_CLEANINGS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CLIPTokenizer:
  """Byte-pair tokenizer of CLIP, HPSv2 and PickScore.

  One difference from the official code: a literal special token in a prompt is
  also recognised right after punctuation.

  Attributes:
    vocabulary: OpenAI's vocabulary, which all of these models share.
    clean: 'open_clip'; 'openai', which differs only in the names of its special
      tokens; or 'hf' (transformers), which does not fix text and pads with the
      end token.
    pad_id: overrides the padding id, because some towers were trained with
      another one: "!", id 0, according to Meissonic's files. It changes the
      states that Meissonic and MaskGen read, not CLIP's pooled features.
    prefix: text before every prompt, e.g. `DIMO_PREFIX`.
    length: T, tokens per prompt.

  Raises:
    ValueError: for an unknown `clean`.
    UserError: if the vocabulary is inconsistent.
  """

  vocabulary: BytePairs
  clean: str = 'open_clip'
  pad_id: int | None = None
  prefix: str = ''
  length: int = 77

  def __post_init__(self) -> None:
    if self.clean not in _CLEANINGS:
      raise ValueError(
        f'clean {self.clean!r} is unknown; choose one of {CLEANINGS}'
      )
    _ = self._encoder  # raises if the vocabulary is inconsistent

  @classmethod
  def load(cls, where: str, **options: Any) -> 'CLIPTokenizer':
    """Loads the vocabulary from a folder or the Hub; see `load_byte_pairs`."""
    return cls(vocabulary=load_byte_pairs(where), **options)

  def __call__(self, texts: Sequence[str]) -> TextTokens:
    """Tokens of prompts; long ones are cut before the end token."""
    start, end = self._end_ids
    pad = end if self._how.ends_fill else 0
    return _rows(
      self._encode(texts),
      (start, *self._encode([self.prefix])[0]),
      end,
      self.length,
      pad=pad if self.pad_id is None else self.pad_id,
    )

  @functools.cached_property
  def _end_ids(self) -> tuple[int, int]:
    ids, (start, end) = self._encoder.get_vocab(), self._how.ends
    return ids[start], ids[end]

  @property
  def _how(self) -> _Cleaning:
    return _CLEANINGS[self.clean]

  def _encode(self, texts: Sequence[str]) -> list[list[int]]:
    return _encode(self._encoder, [self._how.clean(text) for text in texts])

  @functools.cached_property
  def _encoder(self) -> tokenizers.Tokenizer:
    ids, ends = dict(self.vocabulary.ids), self._how.ends
    for name, official in zip(ends, _OPENAI_ENDS, strict=True):
      if official not in self.vocabulary.ids:
        raise UserError(f'the byte-pair vocabulary lacks {official}')
      ids[name] = ids.pop(official)
    model = _model(
      models.BPE,
      ids,
      list(self.vocabulary.merges),
      unk_token=ends[1],
      end_of_word_suffix='</w>',
    )
    split = pre_tokenizers.Split(tokenizers.Regex(_WORDS), 'removed', True)
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    encoder = tokenizers.Tokenizer(model)
    encoder.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    if self._how.normalizer is not None:
      encoder.normalizer = self._how.normalizer
    encoder.add_special_tokens(list(ends))
    return encoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordPieceTokenizer:
  """BERT's word pieces for ImageReward, which ignores case and accents.

  Attributes:
    vocabulary: id of each piece; [DEC] and [ENC] are added.
    length: T, tokens per prompt.

  Raises:
    UserError: if the vocabulary lacks a special token.
  """

  vocabulary: Mapping[str, int]
  length: int = 35

  def __post_init__(self) -> None:
    lacking = [name for name in _WORD_PIECES if name not in self.vocabulary]
    if lacking:
      raise UserError(f'the word-piece vocabulary lacks {lacking[0]}')

  @classmethod
  def load(cls, where: str, **options: int) -> 'WordPieceTokenizer':
    """Loads the vocabulary from a folder or the Hub; see `load_word_pieces`."""
    return cls(vocabulary=load_word_pieces(where), **options)

  def __call__(self, texts: Sequence[str]) -> TextTokens:
    """Tokens of prompts; long ones are cut before [SEP]."""
    return _rows(
      _encode(self._encoder, texts),
      (self.vocabulary['[CLS]'],),
      self.vocabulary['[SEP]'],
      self.length,
      pad=self.vocabulary['[PAD]'],
    )

  @functools.cached_property
  def _encoder(self) -> tokenizers.Tokenizer:
    model = _model(models.WordPiece, dict(self.vocabulary), unk_token='[UNK]')
    encoder = tokenizers.Tokenizer(model)
    encoder.normalizer = normalizers.BertNormalizer(lowercase=True)
    encoder.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    encoder.add_special_tokens([*_WORD_PIECES, *_BLIP_PIECES])
    return encoder


def load_byte_pairs(where: str) -> BytePairs:
  """Loads CLIP's vocabulary from vocab.json and merges.txt.

  Args:
    where: a folder with both files, or a Hub id: org/name or org/name/folder.
      'openai' is the bundled vocabulary of all released CLIPs; 'rule' has
      single bytes only, for models too small for the former.

  Raises:
    UserError: if a file is unavailable or invalid.
  """
  if where == RULE:
    return BytePairs(*vocabularies.single_bytes(_OPENAI_ENDS))
  if where == vocabularies.OPENAI:
    return BytePairs(*vocabularies.openai_byte_pairs(_OPENAI_ENDS))
  path = _locate(where, 'vocab.json')
  try:
    ids = dict(unique_json(read_text(path)).items())
    vocabularies.check_ids(ids)
  except (AttributeError, ValueError) as error:
    raise UserError(
      f'{path} is not a table of tokens and ids ({error})'
    ) from error
  path = _locate(where, 'merges.txt')
  try:
    merges = vocabularies.merges(read_text(path), ids)
  except ValueError as error:
    raise UserError(f'{path} is not a list of token pairs ({error})') from error
  return BytePairs(ids, merges)


def load_word_pieces(where: str) -> dict[str, int]:
  """Loads BERT's vocabulary from vocab.txt, one piece per line.

  Args:
    where: a folder with the file, or a Hub id; ImageReward uses the vocabulary
      of google-bert/bert-base-uncased. 'rule' has single letters only.

  Raises:
    UserError: if the file is unavailable or not UTF-8.
  """
  if where == RULE:
    return vocabularies.single_letters(_WORD_PIECES)
  # Not `splitlines`, which also splits at characters that are pieces.
  path = _locate(where, 'vocab.txt')
  pieces = read_text(path).removesuffix('\n').split('\n')
  ids = {piece: index for index, piece in enumerate(pieces)}
  for index, piece in enumerate(pieces):
    if ids[piece] != index:
      raise UserError(f'{path} has {piece!r} twice; copy it again')
  return ids


def _locate(where: str, name: str) -> pathlib.Path:
  """Local file of a vocabulary, downloaded if necessary."""
  folder = pathlib.Path(where).expanduser()
  if not folder.is_dir():
    return sources.locate(f'{where}/{name}')
  if not (folder / name).is_file():
    raise UserError(
      f'{where} has no {name}; copy it there from the released model'
    )
  return folder / name


def _model(
  kind: type[models.Model], *args: Any, **options: Any
) -> models.Model:
  try:
    return kind(*args, **options)
  except Exception as error:  # the library raises nothing more specific
    raise UserError(f'the vocabulary is inconsistent ({error})') from error


def _encode(
  encoder: tokenizers.Tokenizer, texts: Sequence[str]
) -> list[list[int]]:
  """Ids of texts, without start and end tokens."""
  found = encoder.encode_batch(list(texts), add_special_tokens=False)
  return [text.ids for text in found]


def _rows(
  texts: Sequence[Sequence[int]],
  start: Sequence[int],
  end: int,
  length: int,
  *,
  pad: int,
) -> TextTokens:
  """Rows of equal length: start tokens, text, end token, padding."""
  ids = np.full((len(texts), length), pad, np.int32)
  mask, cut = np.zeros(ids.shape, bool), np.zeros(len(texts), bool)
  for row, text in enumerate(texts):
    whole = [*start, *text]
    cut[row] = len(whole) >= length
    tokens = [*whole[: length - 1], end]
    ids[row, : len(tokens)] = tokens
    mask[row, : len(tokens)] = True
  return TextTokens(ids, mask, cut)
