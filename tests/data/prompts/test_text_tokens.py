"""Text tokenizers: parity, files, and what may be wrong with them."""

import json

import huggingface_hub
import numpy as np
import pytest

from softdimo_jax.data.prompts import text_tokens
from softdimo_jax.data.prompts.text_tokens import (
  CLIPTokenizer,
  WordPieceTokenizer,
)
from softdimo_jax.errors import UserError
from tests.golden import parity

LETTERS = 'acdghot.!<>_'
MERGES = [('c', 'a'), ('ca', 't</w>'), ('d', 'o'), ('do', 'g</w>')]
START, END = '<|startoftext|>', '<|endoftext|>'
PIECES = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'cat', '##s', 'a', '!']


def byte_pairs():
  tokens = [*LETTERS, *(f'{letter}</w>' for letter in LETTERS)]
  tokens += [''.join(pair) for pair in MERGES] + [START, END]
  return {token: index for index, token in enumerate(tokens)}


def write_byte_pairs(folder):
  folder.mkdir(exist_ok=True)
  (folder / 'vocab.json').write_text(json.dumps(byte_pairs()))
  lines = ['#version: 0.2', *(' '.join(pair) for pair in MERGES), '']
  (folder / 'merges.txt').write_text('\n'.join(lines))
  return str(folder)


def write_word_pieces(folder, pieces=PIECES):
  (folder / 'vocab.txt').write_text('\n'.join(pieces) + '\n')
  return str(folder)


@pytest.fixture
def tokenize(tmp_path):
  """Tokens, as text, of one prompt; padding left out."""
  folder = write_byte_pairs(tmp_path / 'clip')
  names = {index: token for token, index in byte_pairs().items()}

  def run(text, **options):
    tokens = CLIPTokenizer.load(folder, **options)([text])
    assert tokens.ids.dtype == np.int32
    return [names[index] for index in tokens.ids[0][tokens.mask[0]]]

  return run


@pytest.mark.parametrize('name', ['clip_tokenizer', 'bert_tokenizer'])
def test_parity(name):
  parity.check(name)


def test_words_become_their_longest_pairs(tokenize):
  assert tokenize('a  CAT dog') == [
    START, 'a</w>', 'cat</w>', 'dog</w>', END,
  ]  # fmt: skip
  assert tokenize('hot!') == [START, 'h', 'o', 't</w>', '!</w>', END]
  assert tokenize('') == [START, END]


def test_cleaning_is_a_choice(tokenize):
  escaped = 'cat &amp;lt; dog'
  assert tokenize(escaped) == [START, 'cat</w>', '<</w>', 'dog</w>', END]
  assert '<</w>' not in tokenize(escaped, clean='hf')
  assert tokenize('<start_of_text>')[1] == START
  assert START not in tokenize('<start_of_text>', clean='openai')[1:]
  assert tokenize(START, clean='openai')[1] == START


def test_rows_are_padded_and_cut(tmp_path):
  folder = write_byte_pairs(tmp_path)
  texts = ['cat', 'cat dog cat dog']
  cat, dog, start, end = (
    byte_pairs()[name] for name in ('cat</w>', 'dog</w>', START, END)
  )
  tokens = CLIPTokenizer.load(folder, length=5)(texts)
  np.testing.assert_array_equal(
    tokens.ids, [[start, cat, end, 0, 0], [start, cat, dog, cat, end]]
  )
  np.testing.assert_array_equal(tokens.mask.sum(1), [3, 5])
  filled = CLIPTokenizer.load(folder, length=5, clean='hf')(texts)
  np.testing.assert_array_equal(filled.ids[0], [start, cat, end, end, end])
  np.testing.assert_array_equal(filled.mask, tokens.mask)


def test_a_prefix_is_put_before_every_prompt(tokenize):
  assert tokenize('dog', prefix='a cat ', length=5) == tokenize('a cat dog')
  assert tokenize('dog dog dog', prefix='a cat ', length=5) == [
    START, 'a</w>', 'cat</w>', 'dog</w>', END,
  ]  # fmt: skip


def test_word_pieces(tmp_path):
  tokenizer = WordPieceTokenizer.load(write_word_pieces(tmp_path), length=6)
  tokens = tokenizer(['A cäts!', 'x', 'cat cat cat cat cat', ''])
  np.testing.assert_array_equal(
    tokens.ids,
    [
      [2, 7, 5, 6, 8, 3],
      [2, 1, 3, 0, 0, 0],
      [2, 5, 5, 5, 5, 3],
      [2, 3, 0, 0, 0, 0],
    ],
  )
  np.testing.assert_array_equal(tokens.mask, tokens.ids > 0)
  assert tokenizer(['[DEC] [ENC]']).ids[0].tolist() == [2, 9, 10, 3, 0, 0]


def test_files_come_from_the_hub(tmp_path, monkeypatch):
  asked = []

  def download(repo, file):
    asked.append((repo, file))
    return tmp_path / file.split('/')[-1]

  monkeypatch.setattr(huggingface_hub, 'hf_hub_download', download)
  write_byte_pairs(tmp_path)
  write_word_pieces(tmp_path)
  assert text_tokens.load_byte_pairs('org/name/folder').merges == MERGES
  assert text_tokens.load_word_pieces('org/name')['a'] == 7
  assert asked == [
    ('org/name', 'folder/vocab.json'),
    ('org/name', 'folder/merges.txt'),
    ('org/name', 'vocab.txt'),
  ]


def test_files_that_are_not_to_be_had(tmp_path, monkeypatch):
  with pytest.raises(UserError, match=r'has no vocab\.json; copy it there'):
    CLIPTokenizer.load(str(tmp_path))
  with pytest.raises(UserError, match=r'has no vocab\.txt; copy it there'):
    WordPieceTokenizer.load(str(tmp_path))
  with pytest.raises(UserError, match=r'nowhere.* is neither a file'):
    WordPieceTokenizer.load('/nowhere')

  def refuse(*_):
    raise OSError('offline')

  monkeypatch.setattr(huggingface_hub, 'hf_hub_download', refuse)
  with pytest.raises(
    UserError, match=r'vocab\.txt is not a local file, .*\(OSError: off'
  ):
    WordPieceTokenizer.load('org/name')


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('vocab.json', b'[1]', 'not a table of tokens'),
    ('vocab.json', b'{', 'not a table of tokens'),
    ('vocab.json', b'{"a": "b"}', 'not a table of tokens'),
    ('vocab.json', b'{"a": 0}', r'lacks <\|startoftext\|>'),
    ('vocab.json', b'\xff', r'is not UTF-8 text \(line 1'),
    ('merges.txt', b'a b c\n', 'not a list of token pairs'),
    ('merges.txt', b'q u\n', 'no pair for the token'),
    ('vocab.json', b'{"a": 0, "b": 0}', 'two tokens have the same id'),
    ('vocab.json', b'{"a": 1.5}', r'1.5 is no id'),
    ('vocab.json', b'{"a": 0, "a": 1}', "the key 'a' twice"),
  ],
)
def test_broken_byte_pairs(tmp_path, name, content, message):
  folder = write_byte_pairs(tmp_path)
  (tmp_path / name).write_bytes(content)
  with pytest.raises(UserError, match=message):
    CLIPTokenizer.load(folder)


def test_pairs_of_unknown_tokens(tmp_path):
  folder = write_byte_pairs(tmp_path)
  with (tmp_path / 'merges.txt').open('a') as file:
    file.write('q u\n')
  with pytest.raises(UserError, match='vocabulary is inconsistent'):
    CLIPTokenizer.load(folder)


def test_a_piece_that_occurs_twice_moves_no_ids(tmp_path):
  folder = write_word_pieces(tmp_path, [*PIECES[:6], 'cat', *PIECES[6:]])
  with pytest.raises(UserError, match="has 'cat' twice"):
    WordPieceTokenizer.load(folder)


def test_broken_word_pieces(tmp_path):
  folder = write_word_pieces(tmp_path, ['[PAD]', '[UNK]', '[CLS]', 'a'])
  with pytest.raises(UserError, match=r'word-piece vocabulary lacks \[SEP\]'):
    WordPieceTokenizer.load(folder)


def test_an_unknown_cleaning_is_refused(tmp_path):
  folder = write_byte_pairs(tmp_path)
  with pytest.raises(ValueError, match=r"clean 'none' is unknown; .*'hf'"):
    CLIPTokenizer.load(folder, clean='none')


def test_the_id_that_pads_is_a_choice(tmp_path):
  folder = write_byte_pairs(tmp_path)
  tokens = CLIPTokenizer.load(folder, clean='hf', pad_id=0, length=5)(['cat'])
  assert tokens.ids[0, 3:].tolist() == [0, 0]
  assert tokens.mask[0].sum() == 3


def test_prompts_that_are_cut_are_told(tmp_path):
  tokenize = CLIPTokenizer.load(write_byte_pairs(tmp_path), length=5)
  tokens = tokenize(['cat dog cat', 'cat dog cat dog', 'cat ' * 2500, ''])
  assert tokens.cut.tolist() == [False, True, True, False]
