"""Fixtures of the text tokenizers, whose texts are in the JSON files."""

import functools

import numpy as np

from softdimo_jax.data.prompts import vocabularies
from softdimo_jax.data.prompts.text_tokens import (
  DIMO_PREFIX,
  CLIPTokenizer,
  TextTokens,
  WordPieceTokenizer,
  load_byte_pairs,
)
from softdimo_jax.parity.fixture import Fixture
from softdimo_jax.parity.record import Arrays


def clip_tokenizer(fixture: Fixture) -> Arrays:
  """open_clip's, OpenAI's and transformers' tokenizers, and Di[M]O's prefix."""
  config = fixture.config
  build = functools.partial(
    CLIPTokenizer,
    vocabulary=load_byte_pairs(vocabularies.OPENAI),
    length=config['context_length'],
  )
  run = lambda **options: build(**options)(config['texts'])
  hf = run(clean='hf')
  return {
    'ids_openclip': run().ids,
    'ids_openai': run(clean='openai').ids,
    'ids_dimo_prefixed': run(clean='openai', prefix=DIMO_PREFIX).ids,
    'ids_hf': hf.ids,
    'hf_attention_mask': _as_official(hf),
  }


def bert_tokenizer(fixture: Fixture) -> Arrays:
  """transformers' `BertTokenizer` as ImageReward calls it."""
  config = fixture.config
  tokenizer = WordPieceTokenizer(
    vocabulary={piece: i for i, piece in enumerate(config['vocab'])},
    length=config['max_length'],
  )
  tokens = tokenizer(config['texts'])
  return {'input_ids': tokens.ids, 'attention_mask': _as_official(tokens)}


def _as_official(tokens: TextTokens) -> np.ndarray:
  return tokens.mask.astype(np.int32)
